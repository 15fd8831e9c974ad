"""Training: data sets, losses, and the loop as a generator of events."""
