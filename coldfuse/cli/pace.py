"""How often something that goes on is worth another line, where nobody watches a bar: in a file, a pipe, a journal."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 30.0
"""Seconds between two lines about what moves on."""

_LONGEST_S = 600.0


class Pace:
    """Tells when another line is due: at first, and then every so often."""

    def __init__(self, *, grows: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin; a line is due at once.

        Args:
            grows: True for what may take days: the pauses double up to ten minutes.
            clock: Tells the time in seconds.
        """
        self._grows, self._clock = grows, clock
        self._due_s, self._pause_s = clock(), EVERY_S

    def is_due(self) -> bool:
        """Tell whether a line is due, and count it as said if so."""
        now_s = self._clock()
        if now_s < self._due_s:
            return False
        self.count()
        return True

    def count(self) -> None:
        """Count a line that was said."""
        self._due_s = self._clock() + self._pause_s
        if self._grows:
            self._pause_s = min(2 * self._pause_s, _LONGEST_S)
