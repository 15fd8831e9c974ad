"""Other people's node packs: found, loaded, and shown a host that they know."""
