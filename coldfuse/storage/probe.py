"""Finding stores that do not keep the promises before anything is entrusted to them.

Some servers take a conditional write, ignore its condition and answer that all is well (rclone), or honour it only when
nobody else writes at the same time (OpenStack Swift). Neither shows in ordinary use until the day two writers meet.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

from coldfuse.errors import ConflictError, StorageError, UnsuitableStoreError
from coldfuse.storage.base import ObjectStore

NUM_RACERS = 8
NUM_RACES = 3
_TIMEOUT_S = 60.0


def check_store(store: ObjectStore) -> None:
    """Make sure that the store honours conditional writes, alone and in a race.

    Needs to write, read, list and delete below `uploads/`, and leaves nothing there.

    Raises:
        UnsuitableStoreError: Two writers could destroy each other's work.
    """
    prefix = f"uploads/probe-{uuid.uuid4().hex}"
    keys = [f"{prefix}/{name}" for name in ("create", "swap", *map(str, range(2 * NUM_RACES)))]
    try:
        _check_create(store, keys[0])
        _check_swap(store, keys[1])
        for key in keys[2 : 2 + NUM_RACES]:
            _check_create_race(store, key)
        for key in keys[2 + NUM_RACES :]:
            _check_swap_race(store, key)
    except BaseException:
        with suppress(StorageError):  # what went wrong first is what people need to hear
            _remove(store, keys)
        raise
    _remove(store, keys)


def _check_create(store: ObjectStore, key: str) -> None:
    if not store.put_if_absent(key, b"first"):
        raise _unsuitable(store, "refuses to create an object that is not there")
    if store.put_if_absent(key, b"second") or store.get(key) != b"first":
        raise _unsuitable(store, "overwrites an object that was to be created only if absent")
    if store.list(key).keys != (key,):
        raise _unsuitable(store, "does not list an object that it has just stored")


def _check_swap(store: ObjectStore, key: str) -> None:
    old = store.compare_and_swap(key, b"old", etag=None)
    if not _swaps(store, key, b"new", etag=old):
        raise _unsuitable(store, "refuses to replace an object whose etag is current")
    for etag in (old, None):
        if _swaps(store, key, b"lost", etag=etag) or store.get(key) != b"new":
            raise _unsuitable(store, "replaces an object although it has changed since it was read")


def _check_create_race(store: ObjectStore, key: str) -> None:
    winners = _race(lambda data: store.put_if_absent(key, data))
    if len(winners) != 1 or store.get(key) != winners[0]:
        raise _unsuitable(store, f"lets {len(winners)} of {NUM_RACERS} concurrent writers create one object")


def _check_swap_race(store: ObjectStore, key: str) -> None:
    etag = store.compare_and_swap(key, b"start", etag=None)
    winners = _race(lambda data: _swaps(store, key, data, etag=etag))
    if len(winners) != 1 or store.get(key) != winners[0]:
        raise _unsuitable(store, f"lets {len(winners)} of {NUM_RACERS} concurrent writers replace one version")


def _race(write: Callable[[bytes], bool]) -> list[bytes]:
    """Let several threads write at once, and return what those wrote who were told that they had won."""
    start = Barrier(NUM_RACERS)

    def run(data: bytes) -> bool:
        start.wait(_TIMEOUT_S)
        return write(data)

    with ThreadPoolExecutor(NUM_RACERS) as threads:
        offers = [b"racer %d" % number for number in range(NUM_RACERS)]
        return [data for data, won in zip(offers, threads.map(run, offers), strict=True) if won]


def _swaps(store: ObjectStore, key: str, data: bytes, *, etag: str | None) -> bool:
    try:
        store.compare_and_swap(key, data, etag=etag)
    except ConflictError:
        return False
    return True


def _remove(store: ObjectStore, keys: list[str]) -> None:
    for key in keys:
        store.delete(key)


def _unsuitable(store: ObjectStore, what: str) -> UnsuitableStoreError:
    return UnsuitableStoreError(
        f"{store.url}: this store {what}, so two writers could destroy each other's work; "
        f"use one with conditional writes (Amazon S3, Ceph, MinIO, a local folder)"
    )
