"""Real servers that tests start for themselves and that die with them."""
