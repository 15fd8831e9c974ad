"""A pack without nodes."""
