"""Options of `coldfuse doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from coldfuse.cli.options.shared import AsJson


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Find everything in a store that is damaged, cut or missing, and bring back what can be; without one, look here.

    Every object is read once. What runs on the store may go on meanwhile. Exit status 1 if something is damaged still.

    Example: coldfuse doctor ./federation --repair --from ./model
    """

    store: Annotated[
        str | None, typer.Argument(help="A folder, or s3://BUCKET/PREFIX; none: this machine.", show_default=False)
    ] = None
    repair: Annotated[bool, typer.Option("--repair", help="Bring back what can be.")] = False
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="Where sound bytes may come from: a folder that a release was fetched to, or another store; "
            "as often as needed.",
            show_default=False,
        ),
    ] = None
    as_json: AsJson = False
