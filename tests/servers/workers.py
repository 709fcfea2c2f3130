"""What child processes of tests do: plain functions that a spawned process can import."""

import hashlib
import itertools
import os
import sys
from threading import Barrier

from coldfuse.errors import ConflictError
from coldfuse.storage import open_store
from coldfuse.storage.base import ObjectStore

NUM_PROCESSES = 3
_meeting: list[Barrier] = []  # where this process meets the others: a barrier cannot be sent along with a task


def meet_at(barrier: Barrier) -> None:
    """Tell this process where it meets the others."""
    _meeting.append(barrier)


def create(store: ObjectStore, key: str, data: bytes, start: Barrier | None = None) -> bool:
    """Wait for the others, then try to create."""
    (start or _meeting[0]).wait(60)
    return store.put_if_absent(key, data)


def increment(store: ObjectStore, key: str, count: int, start: Barrier | None = None) -> int:
    """Add 1 to a number by compare and swap, this many times; return how often somebody else was faster.

    All wait for each other between their first reading and their first swap, so that they are sure to meet.
    """
    num_conflicts = 0
    for number in range(count):
        is_first = number == 0
        while True:
            value, etag = store.get_with_etag(key)
            if is_first:
                (start or _meeting[0]).wait(60)
                is_first = False
            try:
                store.compare_and_swap(key, b"%d" % (int(value) + 1), etag=etag)
            except ConflictError:
                num_conflicts += 1
            else:
                break
    return num_conflicts


def churn(store: ObjectStore, folder: str, count: int) -> None:
    """Make and remove objects, so that their folder comes and goes under everybody's feet."""
    for number in range(count):
        key = f"{folder}/{os.getpid()}-{number}"
        if not store.put_if_absent(key, b"x") or store.get(key) != b"x":
            raise RuntimeError(f"{key} was just created and is not there")
        store.delete(key)


def write_until_killed(url: str) -> None:
    """Write without end, and say on standard output what is done; a large object is always half written."""
    store = open_store(url)
    etag = None
    with store.open_writer("objects/never-finished") as unfinished:
        for number in itertools.count():
            unfinished.write(bytes(1000))
            data = os.urandom(1 + number * 7919 % 200_000)
            digest = hashlib.sha256(data).hexdigest()
            store.put_if_absent(f"objects/{digest}", data)
            print("object", digest, flush=True)
            etag = store.compare_and_swap(f"pointers/{os.getpid()}", b"%d" % number * 1000, etag=etag)
            print("pointer", number, flush=True)


if __name__ == "__main__":
    write_until_killed(sys.argv[1])
