"""The commands of the command line, as its users find them."""

from __future__ import annotations

from functools import cache

import click
import typer

from coldfuse.cli.main import app


@cache
def commands() -> dict[str, click.Command]:
    """Return every command by the words that call it."""
    found: dict[str, click.Command] = {}

    def walk(path: str, command: click.Command) -> None:
        children = getattr(command, "commands", None)
        if children is None:
            found[path] = command
        for name, child in (children or {}).items():
            walk(f"{path} {name}".strip(), child)

    walk("", typer.main.get_command(app))
    return found
