"""Methods that drop entries of the deltas, or let their signs vote."""
