"""What the Protocol of `storage/base.py` promises, on every implementation."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from threading import Barrier

import pytest
from servers.workers import NUM_PROCESSES, create, increment

from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError
from coldfuse.storage import check_store

MIB = 2**20


def random_bytes(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


# Create


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 100], ids=["empty", "one", "many"])
def test_what_was_put_is_read(store, data):
    assert store.put_if_absent("folder/key", data) is True
    assert store.get("folder/key") == data
    assert store.get_with_etag("folder/key")[0] == data
    assert store.head("folder/key").size_bytes == len(data)


def test_create_never_overwrites(store):
    store.put_if_absent("key", b"")
    assert store.put_if_absent("key", b"") is False
    assert store.put_if_absent("key", b"second") is False
    assert store.get("key") == b""


def test_create_takes_any_kind_of_view(store):
    store.put_if_absent("view", memoryview(bytearray(b"0123456789"))[2:5])
    store.put_if_absent("wide", memoryview(b"01234567").cast("q"))
    assert store.get("view") == b"234"
    assert store.get("wide") == b"01234567"


def test_of_many_threads_that_create_one_wins(store):
    offers = [b"offer %d" % number for number in range(16)]
    for key in ("races/1", "races/2"):
        start = Barrier(len(offers))
        with ThreadPoolExecutor(len(offers)) as threads:
            wins = list(threads.map(create, repeat(store), repeat(key), offers, repeat(start)))
        assert wins.count(True) == 1
        assert store.get(key) == offers[wins.index(True)]


def test_of_many_processes_that_create_one_wins(federation_store, processes):
    offers = [b"offer %d" % number for number in range(NUM_PROCESSES)]
    for key in ("races/1", "races/2", "races/3"):
        races = [processes.submit(create, federation_store, key, data) for data in offers]
        wins = [race.result(60) for race in races]
        assert wins.count(True) == 1
        assert federation_store.get(key) == offers[wins.index(True)]


# Read


@pytest.mark.parametrize("size_bytes", [0, 1, 1000])
def test_a_range_is_what_a_slice_is(store, size_bytes):
    data = random_bytes(size_bytes)
    store.put_if_absent("key", data)
    for start in (0, 1, 999, 1000, 5000):
        for length in (None, 0, 1, 1000, 1001):
            assert store.get("key", start=start, length=length) == data[start:][:length]


def test_read_into_fills_the_buffer(store):
    data = random_bytes(1000)
    store.put_if_absent("key", data)
    for start, length in [(0, 1000), (0, 1), (1, 998), (999, 1), (1000, 0)]:
        buffer = bytearray(length)
        store.read_into("key", memoryview(buffer), start=start)
        assert buffer == data[start : start + length]


def test_read_into_says_that_the_object_is_too_short(store):
    store.put_if_absent("key", bytes(1000))
    for start, length in [(0, 1001), (999, 2), (1000, 1), (2000, 1)]:
        with pytest.raises(StorageError, match=r"key.* (more )?want"):
            store.read_into("key", memoryview(bytearray(length)), start=start)


def test_read_into_from_many_threads_of_more_objects_than_stay_open(store):
    contents = {f"objects/{number}": random_bytes(200 + number) for number in range(70)}
    for key, data in contents.items():
        store.put_if_absent(key, data)

    def read(seed: int) -> None:
        for key in random.Random(seed).sample(sorted(contents), 20 if seed else len(contents)):
            buffer = bytearray(100)
            store.read_into(key, memoryview(buffer), start=seed)
            assert buffer == contents[key][seed : seed + 100]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read, range(4)))


def test_reading_what_is_not_there_says_so(store):
    store.put_if_absent("there/key", b"x")
    for key in ("gone", "gone/key", "there", "there/key/below"):
        for read in (
            lambda: store.get(key),  # noqa: B023
            lambda: store.get(key, length=0),  # noqa: B023
            lambda: store.get(key, start=3, length=4),  # noqa: B023
            lambda: store.get_with_etag(key),  # noqa: B023
            lambda: store.read_into(key, memoryview(bytearray(3))),  # noqa: B023
            lambda: store.read_into(key, memoryview(bytearray())),  # noqa: B023
        ):
            with pytest.raises(ObjectNotFoundError):
                read()


def test_head_of_what_is_not_there_is_none(store):
    assert store.head("key") is None
    store.put_if_absent("folder/key", b"x")
    assert store.head("folder") is None
    assert store.head("folder/key/below") is None


def test_ranges_cannot_be_negative(store):
    store.put_if_absent("key", b"x")
    with pytest.raises(ValueError, match="negative"):
        store.get("key", start=-1)
    with pytest.raises(ValueError, match="negative"):
        store.get("key", length=-1)
    with pytest.raises(ValueError, match="negative"):
        store.read_into("key", memoryview(bytearray(1)), start=-1)


# Compare and swap


def test_swap_replaces_only_what_was_read(store):
    first = store.compare_and_swap("pointer", b"1", etag=None)
    second = store.compare_and_swap("pointer", b"2", etag=first)
    assert store.get_with_etag("pointer") == (b"2", second)
    assert store.head("pointer").etag == second
    for stale in (first, None, "0" * 64):
        with pytest.raises(ConflictError, match="pointer"):
            store.compare_and_swap("pointer", b"3", etag=stale)
    assert store.get("pointer") == b"2"


def test_swap_of_what_is_gone_is_a_conflict(store):
    etag = store.compare_and_swap("pointer", b"1", etag=None)
    store.delete("pointer")
    with pytest.raises(ConflictError):
        store.compare_and_swap("pointer", b"2", etag=etag)
    assert store.head("pointer") is None
    store.compare_and_swap("pointer", b"3", etag=None)
    assert store.get("pointer") == b"3"


def test_swap_of_a_large_object(store):
    data, _ = random_bytes(3 * MIB), store.put_if_absent("pointer", b"small")
    large = store.compare_and_swap("pointer", data, etag=store.head("pointer").etag)
    assert store.get_with_etag("pointer") == (data, large)
    store.compare_and_swap("pointer", data[::-1], etag=large)
    with pytest.raises(ConflictError):
        store.compare_and_swap("pointer", data, etag=large)
    assert store.get("pointer") == data[::-1]


def test_of_many_threads_that_swap_one_wins(store):
    etag = store.compare_and_swap("pointer", b"start", etag=None)
    start = Barrier(16)

    def swap(number: int) -> bool:
        start.wait(60)
        try:
            return bool(store.compare_and_swap("pointer", b"%d" % number, etag=etag))
        except ConflictError:
            return False

    with ThreadPoolExecutor(16) as threads:
        wins = list(threads.map(swap, range(16)))
    assert wins.count(True) == 1
    assert store.get("pointer") == b"%d" % wins.index(True)


def test_no_increment_of_threads_is_lost(store):
    store.put_if_absent("counter", b"0")
    start = Barrier(4)
    with ThreadPoolExecutor(4) as threads:
        conflicts = threads.map(lambda _: increment(store, "counter", 10, start), range(4))
        assert sum(conflicts) >= 3
    assert store.get("counter") == b"40"


def test_no_increment_of_processes_is_lost(federation_store, processes):
    federation_store.put_if_absent("counter", b"0")
    conflicts = [processes.submit(increment, federation_store, "counter", 20) for _ in range(NUM_PROCESSES)]
    assert sum(each.result(60) for each in conflicts) >= NUM_PROCESSES - 1  # they did meet
    assert federation_store.get("counter") == b"%d" % (20 * NUM_PROCESSES)


# Stores as values


def test_a_copy_of_a_store_is_the_same_store(federation_store):
    federation_store.put_if_absent("key", b"x")
    copy = pickle.loads(pickle.dumps(federation_store))
    assert copy.url == federation_store.url
    assert copy.get("key") == b"x"


def test_the_probe_accepts_and_leaves_nothing(store):
    check_store(store)
    assert store.list("").keys == ()
