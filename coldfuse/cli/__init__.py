"""The command `coldfuse`: one module a user. Heavy imports wait inside the commands, so that `--help` is instant."""
