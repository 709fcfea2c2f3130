"""Methods that need statistics of each contributor's data beside its delta."""
