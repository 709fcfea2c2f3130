"""One read for all who ask at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from coldfuse.errors import ColdfuseError

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """A value that is costly to read, and that many want.

    Each caller gets a value whose reading began after the call, or at most `max_age_s` before it. One thread reads at a
    time; those who wait for it share the next read, so the source sees one reader whatever the number of callers. A
    failure is shared like a value: ten thousand callers do not queue for a store that is down.
    """

    def __init__(self, read: Callable[[], T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._last: tuple[float, T | ColdfuseError] | None = None

    def get(self, *, max_age_s: float = 0.0) -> T:
        """Return the value, read again if the last reading began too long ago."""
        wanted_s = self._clock() - max_age_s
        with self._lock:
            if self._last is None or self._last[0] < wanted_s:
                self._last = (self._clock(), self._attempt())
            outcome = self._last[1]
        if isinstance(outcome, ColdfuseError):
            raise type(outcome)(*outcome.args) from outcome  # each thread its own: raising changes an exception
        return outcome

    def peek(self, *, max_age_s: float) -> T | None:
        """Return the value if the last reading is recent and succeeded; never waits."""
        last = self._last
        if last is None or last[0] < self._clock() - max_age_s or isinstance(last[1], ColdfuseError):
            return None
        return last[1]

    def _attempt(self) -> T | ColdfuseError:
        try:
            return self._read()
        except ColdfuseError as error:
            return error
