"""The age of a round, without comparing the clocks of two machines.

Whoever looks at a round measures its age by its own monotonic clock since it first saw the round open. A journal's
marks say how old the round was for those who led it before, in seconds and not as a moment: a leader that takes over
goes on counting from there. So neither a clock that is set wrong nor a change of leaders ends a round early, and it
outlives its deadline by no more than the takeovers took, and what had passed since the last mark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coldfuse.core.round import RoundState


@dataclass(frozen=True)
class Look:
    """What time it was when a round was looked at."""

    age_s: float
    """Seconds since the round was opened."""
    found_s: Mapping[str, float]
    """Age of the round after which each contribution came, at the earliest: that of the look before the one that found
    it. 0 for what was there at the first look, as nobody can say when it came."""


class RoundClock:
    """Measures one round's age for one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to measure with the first look.

        Args:
            clock: Returns seconds; it never goes back.
        """
        self._clock = clock
        self._opened_at: float | None = None
        self._looked_s = 0.0
        self._found_s: dict[str, float] = {}

    def age_s(self, state: RoundState) -> float:
        """Return the age of a round that is open, or was."""
        now = self._clock()
        if self._opened_at is None or now - self._opened_at < state.marked_s:  # somebody has counted for longer
            self._opened_at = now - state.marked_s
        return now - self._opened_at

    def look(self, state: RoundState) -> Look:
        """Look at a round, and remember what has come."""
        age_s = self.age_s(state)
        self._found_s |= dict.fromkeys(state.received.keys() - self._found_s.keys(), self._looked_s)
        self._looked_s = age_s
        return Look(age_s, self._found_s)
