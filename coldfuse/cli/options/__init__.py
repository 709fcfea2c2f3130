"""What can be given to each command. Nothing here takes long to import: every start of `coldfuse` does."""
