"""Networks, and how their weights come from files."""
