"""Namesakes of the modules that packs import from their host, one file each: own code, and only what packs use."""
