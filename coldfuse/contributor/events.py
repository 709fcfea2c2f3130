"""What a node says of itself while it works, and what ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypedDict, Unpack

from coldfuse.core.contribution import Score


@dataclass(frozen=True, kw_only=True)
class NodeEvent:
    """What a node does, for people and scripts."""

    phase: str
    """One of connecting, away, changed, damaged, waiting, fetching, training, statistics, trained, kept, uploading,
    committed, admitted, rejected, released, late and checked."""
    base_release: int | None
    """Number of the release that it works on; None while it knows none."""
    message: str
    """What happened, for people."""
    done: float | None = None
    """Fraction of the phase that is done, where it is known."""
    metric: str | None = None
    """Name of what `value` measures."""
    value: float | None = None
    """Validation score of an epoch of training, once it has been scored."""
    score: Score | None = None
    """Validation score before and after training, once it is done."""

    def as_json(self) -> dict[str, object]:
        """Return the event as scripts read it: with these names, and `metric` and `value` where no accuracy is."""
        is_accuracy = self.metric in (None, "accuracy")
        other = {} if is_accuracy else {"metric": self.metric, "value": self.value}
        return {
            "phase": self.phase, "base_release": self.base_release, "message": self.message, "done": self.done,
            "accuracy": self.value if is_accuracy else None,
            "score": self.score.model_dump() if self.score else None, **other,
        }  # fmt: skip


class Facts(TypedDict, total=False):
    """What an event may say beside its message."""

    done: float | None
    metric: str | None
    value: float | None
    score: Score | None


class Say(Protocol):
    """Reports an event."""

    def __call__(self, phase: str, base_release: int | None, message: str, **facts: Unpack[Facts]) -> None:
        """Report it; see `NodeEvent`."""


class StoppedError(Exception):
    """The node was asked to stop; everything it has done is in its folder."""


def format_score(metric: str, value: float) -> str:
    """Write a score for people.

    >>> format_score("accuracy", 0.875), format_score("perplexity", 31.25)
    ('87.5%', '31.25')
    """
    return f"{value:.1%}" if metric == "accuracy" else f"{value:.4g}"


def describe_score(score: Score) -> str:
    """Say how a score moved."""
    before, after = (format_score(score.metric, value) for value in (score.before, score.after))
    return f"{score.metric} {before} → {after}"
