"""Options of the commands that take something out of a federation, or out of its store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from coldfuse.cli.options.keep import KeepWords
from coldfuse.cli.options.operator import Holding
from coldfuse.cli.options.shared import AsJson, Memory, Store


@dataclass(frozen=True, kw_only=True)
class RetractOptions:
    """Take out what somebody gave: the rounds since are fused again without it, as a new release.

    It is out of the fusion, exactly. It is not out of what others trained on a base that held it: how many of their
    contributions that are is said. Its bytes stay, unless --delete erases them, too. Whoever leads waits meanwhile,
    and goes on from the new release; the running round ends, and who has contributed to it is told. Killed anywhere,
    run it again.

    Example: coldfuse retract ./federation mallory --reason "asked for it" --delete
    """

    store: Store
    target: Annotated[
        str,
        typer.Argument(
            metavar="NAME|CONTRIBUTION",
            help="A contributor, or one contribution: its digest, or the first letters of that.",
            show_default=False,
        ),
    ]
    reason: Annotated[str | None, typer.Option(help="Why; it stays in the journal and in the release.")] = None
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Erase its manifests, deltas and statistics, too; a signed tombstone without a name stays."
        ),
    ] = False
    ban: Annotated[
        bool, typer.Option("--ban", help="Quarantine its contributor, too; `coldfuse revoke` does it for good.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")] = False
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that fuse; one a processor by default.")] = None
    memory: Memory = None
    holding: Holding = field(default_factory=Holding)
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class GcOptions:
    """Remove what nothing needs: what was rejected, replaced or never finished, and what the rules do not keep.

    Nothing that a channel, an open round, an upload or a kept release needs is removed, nor anything that has been
    needed within the last five minutes: what is found is announced, waited for, and looked at once more. The
    federation goes on meanwhile; whoever leads waits some seconds. Killed anywhere, run it again. How much is kept
    where no option says so is a setting (coldfuse set STORE --keep-releases 20); all, where there is none.

    Example: coldfuse gc ./federation --keep-releases 20 --keep-deltas 10 --dry-run
    """

    store: Store
    keep: KeepWords = field(default_factory=KeepWords)
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be removed and why, which rule keeps the rest, and do nothing."),
    ] = False
    holding: Holding = field(default_factory=Holding)
    as_json: AsJson = False
