"""Certificate files that are replaced while they are used: every new connection goes by the newest that fits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from coldfuse.durable import stamp
from coldfuse.errors import UserInputError
from coldfuse.trust.tls import TlsBytes, TlsFiles, load, say_if_ending

logger = logging.getLogger(__name__)

LOOK_S = 3600.0
"""Seconds between two looks where no connection asks for one."""

_AGAIN_S = 60.0
"""Seconds after which files that could not be used are read again although they look the same."""

_DAY_S = 86400.0

_Stamps = list[tuple[int, int, int] | None]


class Followed:
    """Certificate files, and what they held when last they fitted together. Threads may share it."""

    def __init__(self, files: TlsFiles, *, whose: str, clock: Callable[[], float] = time.time) -> None:
        """Read them.

        Args:
            files: The files.
            whose: Who uses them, for the log.
            clock: Tells the time, in seconds since 1970.

        Raises:
            UserInputError: They cannot be used.
        """
        self.files = files
        self._whose, self._clock = whose, clock
        self._lock = threading.Lock()
        self._stamps, self._loaded = _stamps(files), load(files, self._now())
        self._trouble, self._again_at_s = "", 0.0
        self._said_at_s = float("-inf")
        self.newest()

    def newest(self) -> TlsBytes:
        """Return what the files hold; where that cannot be used, as in the middle of being replaced, what they held.

        It is the same object until the content changes. That a certificate ends soon is said once a day.
        """
        with self._lock:
            stamps, now_s = _stamps(self.files), self._clock()
            if stamps != self._stamps or (self._trouble and now_s >= self._again_at_s):
                self._stamps = stamps
                self._read_again(now_s)
            self._say_if_ending(now_s)
            return self._loaded

    @contextmanager
    def watched(self, every_s: float = LOOK_S) -> Iterator[None]:
        """Look now and then during the block, also where nobody connects: connections may last for weeks."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(every_s):
                self.newest()

        thread = threading.Thread(target=look, name="certificates", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _read_again(self, now_s: float) -> None:
        try:
            loaded = load(self.files, self._now())
        except UserInputError as error:
            if str(error) != self._trouble:
                logger.warning("%s goes on with the certificate that it has: %s", self._whose, error)
            self._trouble, self._again_at_s = str(error), now_s + _AGAIN_S
            return
        self._trouble = ""
        if loaded != self._loaded:
            self._loaded, self._said_at_s = loaded, float("-inf")
            logger.info("%s has read its certificates again: %s", self._whose, self.files.cert or self.files.ca)

    def _say_if_ending(self, now_s: float) -> None:
        if now_s - self._said_at_s < _DAY_S:
            return
        if sentence := say_if_ending(self.files.cert, self._loaded.validity, self._now()):
            self._said_at_s = now_s
            logger.warning("the certificate of %s ends: %s", self._whose, sentence)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def follow(files: TlsFiles | None, *, whose: str) -> Followed | None:
    """Follow files, where there are any.

    Raises:
        UserInputError: They cannot be used.
    """
    return None if files is None else Followed(files, whose=whose)


def _stamps(files: TlsFiles) -> _Stamps:
    """Return what changes with each version of the files."""
    return [None if path is None else stamp(path) for path in (files.ca, files.cert, files.key)]
