"""List the fusion methods."""

from __future__ import annotations

import dataclasses
import json

import typer

from coldfuse.api.methods import list_methods
from coldfuse.cli.options.fuse import MethodsOptions
from coldfuse.fusion.recipe import unknown_method


def methods(options: MethodsOptions) -> None:
    """List the methods, or one method's parameters."""
    known, name = list_methods(), options.name
    if name is not None and name not in known:
        raise unknown_method(name, known)
    shown = list(known.values()) if name is None else [known[name]]
    if options.as_json:
        typer.echo(json.dumps([dataclasses.asdict(info) for info in shown], indent=2))
    else:
        typer.echo(str(known if name is None else known[name]))
