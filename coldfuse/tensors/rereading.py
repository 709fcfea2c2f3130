"""Reading objects of a store again, before anything is concluded, and saying what is wrong with those that stay so.

One wrong read may be the line's fault, a worn cable's or a full gateway's. Only what is wrong each time is damage.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from coldfuse.errors import DamagedObjectError, ObjectNotFoundError, StorageError
from coldfuse.storage.base import ObjectStore

TRIES = 3
"""Number of times that something is read before it counts as damaged."""

_PAUSE_S = 0.05
"""Seconds before the second try; before the third it is twice as long."""

ADVICE = "`coldfuse doctor STORE --repair` looks for what can bring it back"
"""What to do about a damaged object."""


def pause(number: int) -> None:
    """Wait before a try, by its number from 0 on."""
    time.sleep(number * _PAUSE_S)


def fetch_verified(
    store: ObjectStore, key: str, buffer: memoryview, *, offset: int, is_right: Callable[[], bool], what: str
) -> None:
    """Fill a buffer from an object until what it holds is right, a few times.

    Args:
        store: Where the object lies.
        key: Its key.
        buffer: Where the bytes go.
        offset: The byte in the object that they begin at.
        is_right: Tells whether the buffer holds what it should.
        what: What the object belongs to, for people.

    Raises:
        DamagedObjectError: The object is missing, cut, unreadable or altered.
        StorageError: The store is away.
    """
    failure: StorageError | None = None
    for number in range(TRIES):
        try:
            if number == 0:
                store.read_into(key, buffer, start=offset)
            else:  # anew: what a store has open may be a file that was replaced
                pause(number)
                _refill(buffer, store.get(key, start=offset, length=len(buffer)))
            failure = None
        except StorageError as error:
            failure = error
        if failure is None and is_right():
            return
    raise damaged(store, key, end=offset + len(buffer), what=what, failure=failure)


def damaged(store: ObjectStore, key: str, *, end: int, what: str, failure: StorageError | None) -> StorageError:
    """Return the error that names an object that could not be read right up to a byte."""
    why = why_unreadable(store, key, end, failure)
    if why is None and failure is not None:
        return failure
    why = why or f"its bytes are not those that it is named by, read {TRIES} times"
    return DamagedObjectError(f"{store.url} {key} ({what}) is damaged: {why}; {ADVICE}", key=key)


def why_unreadable(store: ObjectStore, key: str, end: int, error: StorageError | None) -> str | None:
    """Return what is wrong with an object of which bytes up to `end` were wanted; None: nothing that its size shows."""
    if isinstance(error, ObjectNotFoundError) or (info := store.head(key)) is None:
        return "it is missing" if store.head("federation.json") else None  # else all is missing: a disk is not there
    if info.size_bytes < end:
        return f"it was cut to {info.size_bytes:,} bytes"
    cause = error.__cause__ if error else None
    return "the disk cannot read it" if isinstance(cause, OSError) and cause.errno == errno.EIO else None


def get_verified(
    store: ObjectStore, key: str, is_right: Callable[[bytes], bool], *, start: int = 0, length: int | None = None
) -> bytes:
    """Read a small object, or a range of one, until what it holds is right, a few times.

    Args:
        store: Where the object lies.
        key: Its key.
        is_right: Tells whether these are the bytes that are expected.
        start: First byte to read.
        length: Number of bytes, fewer where the object ends; None: to its end.

    Raises:
        DamagedObjectError: The object is missing, unreadable or altered.
        StorageError: The store is away.
    """
    why: str | None = None
    for number in range(TRIES):
        pause(number)
        try:
            data = store.get(key, start=start, length=length)
        except StorageError as error:
            why = why_unreadable(store, key, 0, error)
            if why is None:
                raise
            continue
        if is_right(data):
            return data
        why = "it is empty" if not data else "it is not what it is named by"
    raise DamagedObjectError(f"{store.url} {key} is damaged: {why}; {ADVICE}", key=key)


def _refill(buffer: memoryview, data: bytes) -> None:
    buffer[: len(data)] = data
    buffer[len(data) :] = bytes(len(buffer) - len(data))  # an end that is missing must not be what came before
