"""What a gateway does beside answering: lists of what came, and dropping what nobody committed."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from coldfuse.errors import ColdfuseError

logger = logging.getLogger(__name__)

_TICK_S = 1.0

COLLECT_EVERY_S = 3600.0
"""Seconds between two looks for leftovers, with up to half of it more, so that many gateways do not look at once."""


class Housekeeper:
    """A thread that lasts as long as its block. What fails is tried again: the store may be away, or full."""

    def __init__(
        self, *, write_lists: Callable[[], object], collect: Callable[[Callable[[float], bool]], object]
    ) -> None:
        """Take what to do.

        Args:
            write_lists: Is called every second.
            collect: Is called at the start and now and then, with what waits for some seconds and returns True when it
                is time to end.
        """
        self._write_lists = write_lists
        self._collect = collect
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_lists, name="gateway-lists", daemon=True),
            threading.Thread(target=self._keep_clean, name="gateway-leftovers", daemon=True),
        ]

    def __enter__(self) -> Housekeeper:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, once what runs has ended."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _keep_lists(self) -> None:
        while not self._ended.wait(_TICK_S):
            _attempt(self._write_lists, "the lists of parts that came cannot be written")

    def _keep_clean(self) -> None:
        rng = random.Random(time.time_ns())  # noqa: S311 - only spreads gateways
        while not self._ended.is_set():
            _attempt(lambda: self._collect(self._ended.wait), "parts that nobody committed cannot be dropped")
            self._ended.wait(COLLECT_EVERY_S * rng.uniform(1.0, 1.5))


def _attempt(function: Callable[[], object], what: str) -> None:
    try:
        function()
    except ColdfuseError as error:
        logger.warning("%s: %s", what, error)
