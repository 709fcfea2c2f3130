"""What older versions have written and said, recorded in `tests/data/`, and the program that records it."""
