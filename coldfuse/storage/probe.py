"""Finding stores that do not keep the promises before anything is entrusted to them.

Some servers take a conditional write, ignore its condition and answer that all is well (rclone), or honour it only when
nobody else writes at the same time (OpenStack Swift). Neither shows in ordinary use until the day two writers meet.

A store is called unsuitable when it breaks the same promise twice: networks and servers also fail in passing, and then
nothing is known. What was found out is noted in the store, beside which store that was, so that the next start asks
for no more than that note; a full store can be started on.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Barrier

from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError, UnsuitableStoreError
from coldfuse.storage.base import ObjectStore, store_identity

NUM_RACERS = 32
NUM_RACES = 3
NUM_TRIES = 4
"""Number of times that a promise is tested, if it was broken once: twice is a proof."""
MAX_FAILURES = 5
"""Number of times that a test may come to no end."""
LARGE_BYTES = 9 << 20
"""Size of an object that S3 takes in several parts."""
_TIMEOUT_S = 60.0
_VERSION = 1  # of what is checked: a note of another version counts for nothing


def ensure_suitable(store: ObjectStore) -> str | None:
    """Make sure, once a store, that it keeps the promises. A note copied into another store counts for nothing there.

    Returns:
        Why that cannot be told now, as the store is full; None: it is suitable.

    Raises:
        UnsuitableStoreError: Two writers could destroy each other's work.
        StorageError: The store is away, or refuses.
    """
    identity = store_identity(store)
    key = f"probes/{hashlib.sha256(f'{_VERSION} {identity}'.encode()).hexdigest()}"
    if store.head(key) is not None:
        return None
    try:
        check_store(store)
        store.put_if_absent(key, json.dumps({"store": identity, "checked_at_s": time.time()}).encode())
    except StorageError as error:
        if not error.is_full:
            raise
        return f"whether {store.url} honours conditional writes cannot be told now: {error}"
    return None


def check_store(store: ObjectStore) -> None:
    """Make sure that the store honours conditional writes, alone and in a race, and takes large objects in parts.

    Needs to write, read, list and delete below `uploads/`, and leaves nothing there.

    Raises:
        UnsuitableStoreError: Two writers could destroy each other's work, shown twice.
        StorageError: The store is away or full, so that nothing is known.
    """
    for check in (_check_create, _check_swap, _check_large):
        _prove(store, check)
    for check in (_check_create_race, _check_swap_race):
        for _ in range(NUM_RACES):
            _prove(store, check)


def _prove(store: ObjectStore, check: Callable[[ObjectStore, str], None]) -> None:
    """Run a check, on another key each time, until it tells; raise what it finds if it finds that twice."""
    num_broken = num_kept = num_failed = 0
    while num_broken + num_kept < (NUM_TRIES if num_broken else 1):
        try:
            with _key_to_try(store) as key:
                check(store, key)
        except UnsuitableStoreError:
            num_broken += 1
            if num_broken == 2:
                raise
        except StorageError as error:
            num_failed += 1
            may_pass = error.may_pass or isinstance(error, ObjectNotFoundError)  # all that a check reads was written
            if not may_pass or num_failed == MAX_FAILURES:
                raise
        else:
            num_kept += 1


@contextmanager
def _key_to_try(store: ObjectStore) -> Iterator[str]:
    key = f"uploads/probe-{uuid.uuid4().hex}"
    try:
        yield key
    except BaseException:
        with suppress(StorageError):  # what went wrong first is what people need to hear
            store.delete(key)
        raise
    store.delete(key)


def _check_create(store: ObjectStore, key: str) -> None:
    if not store.put_if_absent(key, b"first"):
        raise _unsuitable(store, "refuses to create an object that is not there")
    if store.put_if_absent(key, b"second") or store.get(key) != b"first":
        raise _unsuitable(store, "overwrites an object that was to be created only if absent")
    if store.list(key).keys != (key,):
        raise _unsuitable(store, "does not list an object that it has just stored")
    store.delete(key)
    if not store.put_if_absent(key, b"again"):  # a bucket with versions keeps a mark of what was removed
        raise _unsuitable(store, "refuses to create an object that was removed")


def _check_swap(store: ObjectStore, key: str) -> None:
    old = store.compare_and_swap(key, b"old", etag=None)
    new = _swaps(store, key, b"new", etag=old)
    if new is None:
        raise _unsuitable(store, "refuses to replace an object whose etag is current")
    for etag in (old, None):
        if _swaps(store, key, b"lost", etag=etag) or store.get(key) != b"new":
            raise _unsuitable(store, "replaces an object although it has changed since it was read")
    store.delete(key)
    if _swaps(store, key, b"lost", etag=new) or store.head(key) is not None:
        raise _unsuitable(store, "replaces an object although it was removed since it was read")


def _check_large(store: ObjectStore, key: str) -> None:
    with store.open_writer(key) as writer:
        for _ in range(LARGE_BYTES >> 20):
            writer.write(bytes(1 << 20))
        is_new = writer.commit()
    info = store.head(key)
    if not is_new or info is None or info.size_bytes != LARGE_BYTES:
        raise _unsuitable(store, "does not put the parts of a large object together")
    if store.put_if_absent(key, b"second"):
        raise _unsuitable(store, "overwrites an object that was to be created only if absent")


def _check_create_race(store: ObjectStore, key: str) -> None:
    winners = _race(lambda data: store.put_if_absent(key, data))
    if len(winners) != 1 or store.get(key) != winners[0]:
        raise _unsuitable(store, f"lets {len(winners)} of {NUM_RACERS} concurrent writers create one object")


def _check_swap_race(store: ObjectStore, key: str) -> None:
    etag = store.compare_and_swap(key, b"start", etag=None)
    winners = _race(lambda data: _swaps(store, key, data, etag=etag) is not None)
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


def _swaps(store: ObjectStore, key: str, data: bytes, *, etag: str | None) -> str | None:
    try:
        return store.compare_and_swap(key, data, etag=etag)
    except ConflictError:
        return None


def _unsuitable(store: ObjectStore, what: str) -> UnsuitableStoreError:
    return UnsuitableStoreError(
        f"{store.url}: this store {what}, so two writers could destroy each other's work; "
        f"use one with conditional writes (Amazon S3, Ceph, a local folder)"
    )
