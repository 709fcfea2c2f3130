"""Options of `coldfuse verify`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from coldfuse.cli.options.shared import AsJson, Connection, Memory
from coldfuse.verification.causes import table

_WORD = "Your word on it"


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Verify a federation offline, from a copy of its store or a fetched folder.

    From the root's fingerprint on: who may sign, members, rules, channels, every release back to the first base, every
    journal and verdict, every contribution's signature. --recompute fuses again, and compares bytes.

    Example: coldfuse verify ./federation --objects --recompute --root FINGERPRINT
    """

    source: Annotated[
        str, typer.Argument(help="A store, or a copy of one (folder or s3://BUCKET/PREFIX); or a fetched folder.")
    ]
    release: Annotated[
        int | None, typer.Option(min=0, help="From which release back to the base; the latest by default.")
    ] = None
    at: Annotated[
        str | None,
        typer.Option(help="When it is judged what has expired: 2027-01-31, or with T12:00Z; now by default."),
    ] = None
    objects: Annotated[bool, typer.Option("--objects", help="Read every byte of every object.")] = False
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Fuse again from the stored parent and contributions, and compare.")
    ] = False
    only: Annotated[bool, typer.Option("--only", help="Fuse that one release again, and none before it.")] = False
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also where releases are older than the federation's root.")
    ] = False
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that fuse; one a processor by default.")] = None
    memory: Memory = None
    sign: Annotated[
        bool,
        typer.Option(
            "--sign", help="With --recompute: sign what came out as a member, for others to see.", rich_help_panel=_WORD
        ),
    ] = False
    name: Annotated[
        str | None,
        typer.Option(help="As which member, where this machine has keys of several.", rich_help_panel=_WORD),
    ] = None
    report: Annotated[
        str | None,
        typer.Option(
            help="Where the signed word goes: the gateway (HOST:PORT), where SOURCE is only a copy of the store.",
            rich_help_panel=_WORD,
        ),
    ] = None
    connection: Connection = field(default_factory=Connection)
    as_json: AsJson = False


VerifyOptions.__doc__ = f"{VerifyOptions.__doc__}\n\n\b\nExit status, of several the worst:\n{table()}\n\n"
