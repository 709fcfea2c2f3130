"""Averages and what follows from them: every result is a linear combination of the deltas."""
