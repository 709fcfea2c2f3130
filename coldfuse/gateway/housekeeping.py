"""What a gateway does beside answering: lists of what came, and dropping what nobody committed."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable

from coldfuse.errors import ColdfuseError
from coldfuse.gateway.intake import Intake

logger = logging.getLogger(__name__)

_TICK_S = 0.5
_LOOK_AGAIN_TICKS = 10

COLLECT_EVERY_S = 3600.0
"""Seconds between two looks for leftovers, with up to half of it more, so that many gateways do not look at once."""


class Housekeeper:
    """A thread that lasts as long as its block. What fails is tried again: the store may be away, or full."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
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
        for tick in itertools.count(1):
            if self._ended.wait(_TICK_S):
                return
            _attempt(self._intake.write_lists, "the lists of parts that came cannot be written")
            if tick % _LOOK_AGAIN_TICKS == 0:
                _attempt(self._intake.look_again, "the store still takes nothing")

    def _keep_clean(self) -> None:
        rng = random.Random(time.time_ns())  # noqa: S311 - only spreads gateways
        while not self._ended.is_set():
            _attempt(lambda: self._intake.collect(self._ended.wait), "parts that nobody committed cannot be dropped")
            self._ended.wait(COLLECT_EVERY_S * rng.uniform(1.0, 1.5))


def _attempt(function: Callable[[], object], what: str) -> None:
    try:
        function()
    except ColdfuseError as error:
        logger.warning("%s: %s", what, error)
