"""Objects that are not what they are named by: proving it, and moving them out of the way of sound ones.

An object under its SHA-256 is never overwritten, so a damaged one would stay for ever, and keep a sound one from being
stored again. Where it is proved wrong, by reading it whole more than once, it is moved to `damaged/`: what depends on
it then misses it, which everybody notices, and whoever has it can store it anew.
"""

from __future__ import annotations

import hashlib

from coldfuse.errors import DamagedObjectError, ObjectNotFoundError, StorageError
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.rereading import TRIES, pause, why_unreadable

DAMAGED = "damaged/"
"""Prefix of what was moved out of the way; nothing reads it."""

_CHUNK_BYTES = 4 << 20
"""Number of bytes that are read and held at a time."""


def find_damage(store: ObjectStore, digest: str, size_bytes: int | None = None) -> str | None:
    """Read an object whole, again if it seems damaged, and return what is wrong with it; None: it is sound.

    Args:
        store: Where it lies.
        digest: SHA-256 that it is named by.
        size_bytes: Its size, where that is known: a wrong one says enough.

    Raises:
        StorageError: The store is away.
    """
    why = None
    for number in range(TRIES):
        pause(number)
        why = _look(store, f"objects/{digest}", digest, size_bytes)
        if why is None:
            return None
    return why


def set_aside(store: ObjectStore, digest: str) -> str | None:
    """Move an object out of the way if it is damaged; return what was wrong with it, None: it is sound and stays.

    Another process may do the same at the same time, and its contributor send it again in between: then the sound
    object is not touched but in the moment between the last look and the removal, and is asked for once more.
    """
    why = find_damage(store, digest)
    if why is None or why == MISSING:
        return why
    key = f"objects/{digest}"
    try:
        _copy(store, key, f"{DAMAGED}{digest}")
    except StorageError:
        pass  # it cannot be read, or there is no room: what it was is of no use to anybody but for finding the cause
    if _look(store, key, digest, None) is not None:
        store.delete(key)
    return why


MISSING = "it is missing"
"""What is wrong with an object that is not there."""


def name_damage(store: ObjectStore, key: str, why: str, *, advice: str) -> DamagedObjectError:
    """Return the error that names a damaged object, what is wrong with it, and what to do."""
    return DamagedObjectError(f"{store.url} {key} is damaged: {why}; {advice}", key=key)


def _look(store: ObjectStore, key: str, digest: str, size_bytes: int | None) -> str | None:
    info = store.head(key)
    if info is None:
        return MISSING
    if size_bytes is not None and info.size_bytes != size_bytes:
        return f"it has {info.size_bytes:,} bytes, expected {size_bytes:,}"
    found = hashlib.sha256()
    try:
        for start in range(0, info.size_bytes, _CHUNK_BYTES):
            found.update(store.get(key, start=start, length=_CHUNK_BYTES))
    except StorageError as error:
        if (why := why_unreadable(store, key, info.size_bytes, error)) is None:
            raise
        return why
    return None if found.hexdigest() == digest else f"its SHA-256 is {found.hexdigest()[:12]}, not its name"


def _copy(store: ObjectStore, key: str, target: str) -> None:
    info = store.head(key)
    if info is None:
        raise ObjectNotFoundError(f"{store.url} {key}: no such object")
    with store.open_writer(target) as writer:
        for start in range(0, info.size_bytes, _CHUNK_BYTES):
            writer.write(store.get(key, start=start, length=_CHUNK_BYTES))
        writer.commit()
