"""Options of the consumer's commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coldfuse.cli.options.shared import AsJson, Connection, QuickConnection, Source


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """Download a release, verify it, and leave a folder that from_pretrained loads.

    Example: coldfuse fetch 127.0.0.1:7700 --out ./model
    """

    source: Source
    out: Annotated[Path, typer.Option(help="The folder to write; the next fetch into it brings only what changed.")]
    release: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of the release, the channel's by default; of one that was taken back since, that is said.",
        ),
    ] = None
    channel: Annotated[str, typer.Option(help="Which channel to follow: latest, or stable.")] = "latest"
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Read all that is there already, even if no file has changed by its size and time."
        ),
    ] = False
    allow_older: Annotated[
        bool,
        typer.Option("--allow-older", help="Follow the channel back also where nobody has signed that."),
    ] = False
    model_key: Annotated[
        Path | None,
        typer.Option(help="File to write the key to that `model_signing verify key` takes to verify model.sig."),
    ] = None
    as_json: AsJson = False
    connection: Connection = field(default_factory=Connection)


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """Say where a federation stands: its round, who contributed, and what it waits for.

    Example: coldfuse status ./federation
    """

    source: Source
    as_json: AsJson = False
    connection: QuickConnection = field(default_factory=QuickConnection)


@dataclass(frozen=True, kw_only=True)
class ReleasesOptions:
    """List the releases of a federation, newest first, with what went into each.

    Example: coldfuse releases s3://models/federation --json
    """

    source: Source
    as_json: AsJson = False
    connection: QuickConnection = field(default_factory=QuickConnection)


@dataclass(frozen=True, kw_only=True)
class LineageOptions:
    """Show where a release comes from, back to the first base: what went into each release, and who has signed it.

    Example: coldfuse lineage ./federation --svg lineage.svg
    """

    source: Annotated[
        str,
        typer.Argument(
            help="A store (folder or s3://BUCKET/PREFIX), a gateway (HOST:PORT), or a fetched folder.",
            show_default=False,
        ),
    ]
    release: Annotated[int | None, typer.Option(min=0, help="Number of the release; the latest by default.")] = None
    last: Annotated[int, typer.Option(min=1, help="How many releases are shown.")] = 20
    everything: Annotated[bool, typer.Option("--all", help="Show all of them.")] = False
    svg: Annotated[Path | None, typer.Option(help="File to write a picture to.")] = None
    as_json: AsJson = False
    connection: QuickConnection = field(default_factory=QuickConnection)
