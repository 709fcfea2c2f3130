"""What the Protocol of `storage/base.py` promises of writers, on every implementation."""

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from coldfuse.errors import StorageError

MIB = 2**20


@pytest.mark.parametrize("num_pieces", [0, 1, 3])
def test_a_writer_shows_nothing_before_it_commits(store, num_pieces):
    with store.open_writer("key") as writer:
        for _ in range(num_pieces):
            writer.write(memoryview(b"piece"))
        assert store.head("key") is None
        assert store.list("").keys == ()
        assert writer.commit() is True
    assert store.get("key") == b"piece" * num_pieces


@pytest.mark.parametrize("size_bytes", [5 * MIB, 5 * MIB + 1, 16 * MIB])
def test_a_writer_of_more_than_one_part(store, size_bytes):
    data = random.Random(size_bytes).randbytes(size_bytes)
    with store.open_writer("key") as writer:
        for begin in range(0, size_bytes, 3 * MIB + 1):
            writer.write(data[begin : begin + 3 * MIB + 1])
        assert store.list("").keys == ()
        assert writer.commit() is True
    assert store.head("key").size_bytes == size_bytes
    assert store.get("key") == data
    buffer = bytearray(size_bytes)
    store.read_into("key", memoryview(buffer))
    assert buffer == data


@pytest.mark.parametrize("size_bytes", [10, 11 * MIB])
def test_a_writer_never_overwrites(store, size_bytes):
    with store.open_writer("key") as writer:
        writer.write(bytes(size_bytes))
        store.put_if_absent("key", b"first")
        assert writer.commit() is False
    assert store.get("key") == b"first"


@pytest.mark.parametrize("size_bytes", [0, 10, 11 * MIB])
def test_a_writer_that_does_not_commit_leaves_nothing(store, size_bytes):
    with store.open_writer("left") as writer:
        writer.write(bytes(size_bytes))
    writer = store.open_writer("aborted")
    writer.write(bytes(size_bytes))
    writer.abort()
    writer.abort()
    assert store.list("").keys == ()


def test_a_closed_writer_takes_no_more(store):
    with store.open_writer("key") as writer:
        writer.write(b"all")
        writer.commit()
        with pytest.raises(StorageError, match="closed"):
            writer.write(b"more")
        with pytest.raises(StorageError, match="closed"):
            writer.commit()
        writer.abort()
    assert store.get("key") == b"all"


def test_of_many_writers_of_one_small_object_one_wins(store):
    start = Barrier(8)

    def write(number: int) -> bool:
        with store.open_writer("key") as writer:
            writer.write(b"%d" % number)
            start.wait(60)
            return writer.commit()

    with ThreadPoolExecutor(8) as threads:
        wins = list(threads.map(write, range(8)))
    assert wins.count(True) == 1
    assert store.get("key") == b"%d" % wins.index(True)
