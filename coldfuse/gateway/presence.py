"""What a gateway knows of parts from its own doing a moment ago, so that it need not ask the store again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from coldfuse.core.blob import Part

KNOWN_S = 60.0
"""Seconds for which a gateway relies on what it knows of a part: far less than any part is kept that nobody commits."""

MAX_PARTS = 20_000
"""Parts that are known at a time, the newest ones: some 4 MB."""


class Presence:
    """Which parts were stored or seen in full, and which were found missing, in the last `KNOWN_S` seconds.

    Only saves look-ups: whoever is not sure looks. Any thread may call it; a call that is lost in a race costs a look.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._there: OrderedDict[Part, float] = OrderedDict()
        self._missing: OrderedDict[Part, float] = OrderedDict()

    def seen(self, part: Part) -> None:
        """Note that the store holds this part in full."""
        self._missing.pop(part, None)
        self._note(self._there, part)

    def missed(self, part: Part, *, is_absent: bool) -> None:
        """Note that the store does not hold this part in full.

        Args:
            part: The part.
            is_absent: True if nothing lies under its digest; what is damaged lies in the way of who takes the part.
        """
        self._there.pop(part, None)
        if is_absent:
            self._note(self._missing, part)

    def is_there(self, part: Part) -> bool:
        """Tell whether the part was there a moment ago; False: nobody knows."""
        return self._is_recent(self._there.get(part))

    def take_missing(self, part: Part) -> bool:
        """Tell, once, whether the part was found missing a moment ago; False: nobody knows."""
        return self._is_recent(self._missing.pop(part, None))

    def _is_recent(self, noted_s: float | None) -> bool:
        return noted_s is not None and self._clock() - noted_s < KNOWN_S

    def _note(self, parts: OrderedDict[Part, float], part: Part) -> None:
        parts[part] = self._clock()
        while len(parts) > MAX_PARTS:
            parts.popitem(last=False)
