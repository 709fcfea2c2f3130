"""What a node says of itself while it works, and what ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

from coldfuse.core.contribution import Score

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class NodeEvent:
    """What a node does, for people and scripts."""

    phase: str
    """One of connecting, away, changed, damaged, waiting, fetching, training, statistics, trained, uploading, committed, admitted,
    rejected, released and late."""
    base_release: int | None
    """Number of the release that it works on; None while it knows none."""
    message: str
    """What happened, for people."""
    done: float | None = None
    """Fraction of the phase that is done, where it is known."""
    accuracy: float | None = None
    """Validation accuracy of an epoch of training, once it has been scored."""
    score: Score | None = None
    """Validation accuracy before and after training, once it is done."""

    def as_json(self) -> dict[str, object]:
        """Return the event as scripts read it: with these names, whatever it is."""
        return {
            "phase": self.phase, "base_release": self.base_release, "message": self.message, "done": self.done,
            "accuracy": self.accuracy, "score": self.score.model_dump() if self.score else None,
        }  # fmt: skip


class Facts(TypedDict, total=False):
    """What an event may say beside its message."""

    done: float | None
    accuracy: float | None
    score: Score | None


class Say(Protocol):
    """Reports an event."""

    def __call__(self, phase: str, base_release: int | None, message: str, **facts: Unpack[Facts]) -> None:
        """Report it; see `NodeEvent`."""


class StoppedError(Exception):
    """The node was asked to stop; everything it has done is in its folder."""
