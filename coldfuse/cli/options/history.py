"""Options of the commands on a federation's history."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coldfuse.cli.options.shared import AsJson, QuickConnection


@dataclass(frozen=True, kw_only=True)
class DiffOptions:
    """Say how far a model moved, layer by layer, and who moved it: between two releases, or two models.

    Example: coldfuse diff ./federation --from 3 --to 5

    Two models: coldfuse diff ./base ./tuned
    """

    source: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A store (folder or s3://BUCKET/PREFIX) or a gateway (HOST:PORT); or a model: folder, file or hub id.",
            show_default=False,
        ),
    ]
    other: Annotated[
        str | None, typer.Argument(metavar="[B]", help="The model to compare a model with.", show_default=False)
    ] = None
    since: Annotated[
        int | None,
        typer.Option("--from", min=0, help="Number of the older release; the newer one's parent by default."),
    ] = None
    release: Annotated[
        int | None, typer.Option("--to", min=0, help="Number of the newer release; the latest by default.")
    ] = None
    tensors: Annotated[bool, typer.Option("--tensors", help="Show each tensor, not only layers.")] = False
    plot: Annotated[Path | None, typer.Option(help="File to write a picture to: .png, .svg or .pdf.")] = None
    as_json: AsJson = False
    connection: QuickConnection = field(default_factory=QuickConnection)
