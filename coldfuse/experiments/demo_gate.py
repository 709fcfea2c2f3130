"""What the demonstration's federation has left out of its releases: who, why, and what a release with it would be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from coldfuse.core.contribution import Rejection
from coldfuse.core.gate_rules import SuiteCounts, points
from coldfuse.core.round import RoundState
from coldfuse.registry.federation import Federation


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A contribution that is in no release."""

    round: int
    """Number of the round that it was sent to."""
    contributor: str
    by: Literal["gate", "screening", "late"]
    """What has left it out: it harms what is fused, or was not taken, or came when the round was over."""
    reason: str
    """The aggregator's reason."""
    with_it: Mapping[str, float] | None = None
    """Change of the score on each suite by the candidate that was fused with it, beside its base: 0.01 is one point.
    None where nothing was."""
    without_it: Mapping[str, float] | None = None
    """The same of what was released instead; None where the base was kept."""

    def __str__(self) -> str:
        """Say it in one line."""
        if self.by != "gate":
            return f"round {self.round}: {self.contributor} was left out ({self.by}): {self.reason}"
        with_it, without_it = mean_change(self.with_it), mean_change(self.without_it)
        then = f"{without_it} without it" if without_it else "and the base was kept"
        return (
            f"round {self.round}: {self.contributor} was left out by the gate: the release would have changed the "
            f"suites' scores by {with_it or '?'} with it; {then}"
        )


def mean_change(changes: Mapping[str, float] | None) -> str:
    """Return the mean change over suites for people; empty where there is none.

    >>> mean_change({"a": -0.06, "b": 0.01}), mean_change(None)
    ('-2.5 points', '')
    """
    if not changes:
        return ""
    mean = fmean(changes.values())
    return ("+" if mean > 0 else "") + points(mean)


def read_left_out(federation: Federation) -> Iterator[LeftOut]:
    """Read from the journals what no release has, in the order of the rounds."""
    number = 1
    while (state := federation.journal(number).state()).opened is not None:
        yield from (_left_out(number, state, each) for each in state.rejected.values())
        number += 1


def _left_out(number: int, state: RoundState, rejection: Rejection) -> LeftOut:
    was_fused = state.closed is not None and rejection.contribution in state.closed.contributions
    tried = state.gating.evaluations if was_fused else ()
    return LeftOut(
        round=number,
        contributor=rejection.display_name or rejection.contributor,
        by="gate" if was_fused else "late" if rejection.is_late else "screening",
        reason=rejection.reason,
        with_it=next((_changes(one.counts) for one in tried), None),  # the first candidate was fused of all
        without_it=next((_changes(one.counts) for one in reversed(tried) if one.decision.publish), None),
    )


def _changes(counts: Iterable[SuiteCounts]) -> dict[str, float]:
    return {one.suite: round(one.difference, 4) for one in counts}
