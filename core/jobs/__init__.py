"""Jobs: accepted, queued, worked off and remembered."""
