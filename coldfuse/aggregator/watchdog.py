"""A watchdog: what leads shows it a sign of every step; without one for long it is told that nothing moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PATIENCE_S = 600.0
"""Seconds without a sign after which nothing moves any more. Tasks give one every second while they compute or read;
what is done between them (opening a base, reading a journal of thousands) takes minutes at most."""


class Watchdog:
    """Remembers the last sign of life."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        """Wait for the first sign from now on.

        Args:
            patience_s: Seconds without a sign after which nothing moves.
        """
        self.patience_s = patience_s
        self._seen_at_s = time.monotonic()

    def sign(self) -> None:
        """Say that a step was done."""
        self._seen_at_s = time.monotonic()

    def quiet_s(self) -> float:
        """Return for how long nothing was heard."""
        return time.monotonic() - self._seen_at_s

    def moves(self) -> bool:
        """Tell whether there was a sign in time."""
        return self.quiet_s() <= self.patience_s

    def guard(self, act: Callable[[float], None]) -> threading.Event:
        """Call `act` from a thread, with the seconds, once nothing was heard for twice the patience.

        By then the lease is given up. What hangs in a call to the system cannot be woken up: only ended.

        Returns:
            An event that ends the guard.
        """
        over = threading.Event()

        def wait() -> None:
            while not over.wait(min(self.patience_s / 4, 5.0)):
                if self.quiet_s() > 2 * self.patience_s:
                    act(self.quiet_s())
                    return

        threading.Thread(target=wait, name="watchdog", daemon=True).start()
        return over
