"""A pack that wants to end the program."""

raise SystemExit(3)
