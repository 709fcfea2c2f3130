"""The first contact with a gateway, and what is said while it is out of reach."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from coldfuse.errors import ColdfuseError

_FIRST_WORD_S = 1.0
"""Seconds after which somebody who waits wants to know what for."""

Say = Callable[[str, str], None]
"""say(phase, message), with `connecting` or `away` as the phase; any thread may call it."""


class Contact:
    """Says that a gateway is tried once that takes a second, and later that it is away."""

    def __init__(self, address: str, patience: str, say: Say) -> None:
        """Take what is tried, for how long, and what is called with the words; nothing is tried yet."""
        self._trying = f"trying {address} for {patience} at most"
        self._say = say
        self._reason = ""
        self._has_begun, self._is_made = False, False

    @contextmanager
    def made(self) -> Iterator[None]:
        """Say what is tried while the block asks the first thing of all; raises what that raises."""
        timer = threading.Timer(_FIRST_WORD_S, self._begin)
        timer.daemon = True
        timer.start()
        try:
            yield
            self._is_made = True
        finally:
            timer.cancel()

    def trouble(self, error: ColdfuseError) -> None:
        """Take note of a try that has failed and is followed by another one."""
        self._reason = f": {error}"
        if self._is_made:
            self._say("away", f"{error}; trying again")
        elif self._has_begun:
            self._say("connecting", self._trying + self._reason)

    def _begin(self) -> None:
        self._has_begun = True
        self._say("connecting", self._trying + self._reason)
