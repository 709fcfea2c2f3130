"""How much of a federation's history is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

_PANEL = "Retention"

_KEEP_RELEASES = typer.Option(
    metavar="N|all",
    help="Newest releases whose files coldfuse gc keeps. Those that a channel, a round or kept contributions need are "
    "kept anyway.",
    rich_help_panel=_PANEL,
)
_KEEP_DELTAS = typer.Option(
    metavar="N|all",
    help="Newest releases whose contributions coldfuse gc keeps. Without them a release can neither be fused again "
    "(verify --recompute) nor without somebody (retract).",
    rich_help_panel=_PANEL,
)


@dataclass(frozen=True, kw_only=True)
class KeepWords:
    """How much is kept; None: not spoken of."""

    keep_releases: Annotated[str | None, _KEEP_RELEASES] = None
    keep_deltas: Annotated[str | None, _KEEP_DELTAS] = None
