"""Options on when a round closes, and on who is late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from coldfuse.core.staleness import MAX_STALENESS

_PANEL = "When a round closes, and who is late"

_CLOSE = typer.Option(
    help="When a round with its quorum closes: quorum (at once), active (when everybody who contributed lately has "
    "come), grace (when all have usually come, by past rounds), or all (when everybody enrolled has come). A new "
    "federation: active.",
    rich_help_panel=_PANEL,
)
_GRACE = typer.Option(
    help="A round stays open at least for so long: what the slowest honest node needs (0s: no minimum). A new "
    "federation: 10s.",
    rich_help_panel=_PANEL,
)
_MAX_GRACE = typer.Option(
    help="After so long a round with its quorum waits for nobody; the deadline by default.", rich_help_panel=_PANEL
)
_SPREAD = typer.Option(
    help="With --close grace: how many MADs after the median of past rounds.", rich_help_panel=_PANEL
)
_LATE = typer.Option(
    help="What becomes of what was trained on an older release: drop, next (it counts in the one next round), or "
    "rebase (it counts in the open round). A new federation: rebase.",
    rich_help_panel=_PANEL,
)
_STALENESS = typer.Option(
    help="What it counts: constant, polynomial(a=0.5) or hinge(a=10, b=4). A new federation: polynomial(a=0.5).",
    rich_help_panel=_PANEL,
)
_MAX_STALENESS = typer.Option(
    help="With --late rebase: by how many releases its base may be older.",
    rich_help_panel=_PANEL,
    min=1,
    max=MAX_STALENESS,
)
_PUBLISH_EVERY = typer.Option(
    help="Asynchronous: publish a release with every K contributions. The same as --quorum K --close quorum --grace 0s "
    f"--late rebase --staleness polynomial(a=0.5) --max-staleness {MAX_STALENESS}.",
    rich_help_panel=_PANEL,
    min=1,
)


@dataclass(frozen=True, kw_only=True)
class ClosingWords:
    """When a round closes, and what becomes of who is late, as an operator writes it; None: not spoken of."""

    close: Annotated[str | None, _CLOSE] = None
    grace: Annotated[str | None, _GRACE] = None
    max_grace: Annotated[str | None, _MAX_GRACE] = None
    grace_spread: Annotated[float | None, _SPREAD] = None
    late: Annotated[str | None, _LATE] = None
    staleness: Annotated[str | None, _STALENESS] = None
    max_staleness: Annotated[int | None, _MAX_STALENESS] = None
    publish_every: Annotated[int | None, _PUBLISH_EVERY] = None
