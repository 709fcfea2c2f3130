"""Options of the commands on a federation's history."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coldfuse.cli.options.shared import AsJson, Connection, QuickConnection


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


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Push a verified release to the Hub: its files, its card and its signature, in one commit with the release's tag.

    The token is the one of `hf auth login`, or HF_TOKEN.

    Example: coldfuse push ./federation hf://ward/minilm

    A folder that was fetched: coldfuse push ./model hf://ward/minilm --dry-run
    """

    source: Annotated[
        str,
        typer.Argument(
            help="A store (folder or s3://BUCKET/PREFIX), a gateway (HOST:PORT), or a fetched folder.",
            show_default=False,
        ),
    ]
    repository: Annotated[str, typer.Argument(help="Where to: hf://OWNER/NAME.", show_default=False)]
    release: Annotated[int | None, typer.Option(min=0, help="Number of the release; the channel's by default.")] = None
    channel: Annotated[str, typer.Option(help="Which channel's release.")] = "latest"
    branch: Annotated[str, typer.Option("--revision", help="Branch of the repository.")] = "main"
    public: Annotated[bool, typer.Option("--public/--private", help="Create it public, or push into one that is.")] = (
        False
    )
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance",
            help="Send what `coldfuse verify` needs, too: it names all contributors, who must have agreed to that.",
        ),
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what somebody else has put there; its history keeps it.")
    ] = False
    allow_older: Annotated[bool, typer.Option("--allow-older", help="Go back behind the release that is there.")] = (
        False
    )
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to fetch the release into, which stays: a push that was killed fetches nothing again; a "
            "temporary one by default."
        ),
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False
    as_json: AsJson = False
    connection: Connection = field(default_factory=Connection)
