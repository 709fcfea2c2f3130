"""One input, and what may come of it: a value, or an error that coldfuse declares, in bounded time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coldfuse.errors import ColdfuseError

MAX_S = 20
"""Seconds after which a reader counts as hanging: thousands of times what it takes, on a machine that is busy."""


@dataclass(frozen=True)
class Reader:
    """What reads bytes from elsewhere."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    """Valid samples."""
    is_slow: bool = False
    """True where each run goes through a socket, a library or files: fewer are made."""


class HangError(BaseException):
    """A reader took longer than it ever may."""


def run(reader: Reader, data: bytes) -> str:
    """Read some bytes; return what came of it, for who counts. Whatever else is raised is a finding."""
    with bounded_time():
        try:
            reader.read(data)
        except ColdfuseError as error:
            assert_is_bounded(error, data)
            return type(error).__name__
    return "read"


def assert_is_bounded(error: ColdfuseError, data: bytes) -> None:
    """An error's sentence is not much longer than what it is about."""
    words = str(error)
    assert words, type(error)
    assert len(words) < 20_000 + 8 * len(data), words[:200]


@contextmanager
def bounded_time() -> Iterator[None]:
    """Raise `HangError` in the block when it takes too long; only the main thread can be told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hang(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(MAX_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
