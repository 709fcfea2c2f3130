"""What the Protocol of `storage/base.py` promises, on every implementation."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from threading import Barrier

import pytest
from servers.workers import NUM_PROCESSES, churn, create, increment

from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError
from coldfuse.storage import ObjectStore, check_store

MIB = 2**20
ODD_KEYS = [
    "a",
    "b c",
    "b+c",
    "b%20c",
    "d!$&'()*,;=:@~",
    "e#f?g=h",
    "folder.txt",
    "folder/w",
    "folder/x.y/z",
    "folder/x/y",
    "folder0",
    'q"uo\\te',
    "θ/δ ü",
    "深/い",
    "🙂",
    "n" * 255 + "/" + "m" * 255,
]
NO_KEYS = ["", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", "./a", "a\nb", "a\0", "\ud800", ".coldfuse/tmp/x"]
NO_KEYS += ["x" * 256, "x/" * 300 + "y"]


def random_bytes(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


def all_keys(store: ObjectStore, *, limit: int) -> list[str]:
    page = store.list("", limit=limit)
    keys = list(page.keys)
    while page.next_after is not None:
        page = store.list("", after=page.next_after, limit=limit)
        assert len(page.keys) <= limit
        keys += page.keys
    return keys


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


def test_of_many_processes_that_create_one_wins(shared_store, processes):
    offers = [b"offer %d" % number for number in range(NUM_PROCESSES)]
    for key in ("races/1", "races/2", "races/3"):
        races = [processes.submit(create, shared_store, key, data) for data in offers]
        wins = [race.result(60) for race in races]
        assert wins.count(True) == 1
        assert shared_store.get(key) == offers[wins.index(True)]


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


def test_no_increment_of_processes_is_lost(shared_store, processes):
    shared_store.put_if_absent("counter", b"0")
    conflicts = [processes.submit(increment, shared_store, "counter", 20) for _ in range(NUM_PROCESSES)]
    assert sum(each.result(60) for each in conflicts) >= NUM_PROCESSES - 1  # they did meet
    assert shared_store.get("counter") == b"%d" % (20 * NUM_PROCESSES)


# Writers


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
    data = random_bytes(size_bytes)
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


# List and delete


def test_pages_hold_every_key_once_and_in_order(store):
    for key in ODD_KEYS:
        store.put_if_absent(key, b"")
    for limit in (1, 2, 1000):
        assert all_keys(store, limit=limit) == sorted(ODD_KEYS)


def test_odd_keys_are_keys(store):
    for key in ODD_KEYS:
        assert store.put_if_absent(key, key.encode()) is True
        assert store.get(key) == key.encode()
        assert store.head(key) is not None
    for key in ODD_KEYS:
        store.delete(key)
    assert store.list("").keys == ()


def test_prefix_and_after_are_any_strings(store):
    for key in ODD_KEYS:
        store.put_if_absent(key, b"")
    for prefix in ("", "b", "folder", "folder/", "folder/x", "θ", "none", "深/", "n", "/", "../", "a/", ".coldfuse/"):
        for after in (None, "", "b c", "folder", "folder/x.", "folder/y", "zzz"):
            expected = [key for key in sorted(ODD_KEYS) if key.startswith(prefix) and key > (after or "")]
            assert list(store.list(prefix, after=after).keys) == expected


def test_a_full_last_page_says_that_it_is_the_last(store):
    for key in "abcd":
        store.put_if_absent(key, b"")
    assert store.list("", after="b", limit=2).next_after is None
    assert store.list("", limit=2).next_after == "b"
    with pytest.raises(ValueError, match="1 or more"):
        store.list("", limit=0)


def test_an_empty_store_lists_nothing(store):
    assert store.list("") == store.list("any/prefix", after="any/key")
    assert store.list("").keys == ()
    assert store.list("").next_after is None


def test_delete_removes_and_does_not_mind_absence(store):
    store.put_if_absent("folder/below/key", b"x")
    store.delete("folder/below/key")
    store.delete("folder/below/key")
    store.delete("never/there")
    assert store.list("").keys == ()
    assert store.put_if_absent("folder", b"now a key") is True
    assert store.put_if_absent("other/key", b"x") is True


def test_a_deleted_object_is_not_read_from_memory(store):
    store.put_if_absent("key", b"x")
    store.read_into("key", memoryview(bytearray(1)))
    store.delete("key")
    with pytest.raises(ObjectNotFoundError):
        store.read_into("key", memoryview(bytearray(1)))


def test_creating_and_removing_in_one_folder_never_fails(shared_store, processes):
    for each in [processes.submit(churn, shared_store, "deep/folder", 30) for _ in range(NUM_PROCESSES)]:
        each.result(60)
    assert shared_store.list("").keys == ()


# Keys, and stores as values


@pytest.mark.parametrize("store", ["memory", "local", "moto"], indirect=True)
def test_what_is_no_key_is_refused_by_every_operation(store):
    for key in NO_KEYS:
        for use in (
            lambda: store.head(key),  # noqa: B023
            lambda: store.get(key),  # noqa: B023
            lambda: store.get_with_etag(key),  # noqa: B023
            lambda: store.read_into(key, memoryview(bytearray(1))),  # noqa: B023
            lambda: store.put_if_absent(key, b""),  # noqa: B023
            lambda: store.compare_and_swap(key, b"", etag=None),  # noqa: B023
            lambda: store.open_writer(key),  # noqa: B023
            lambda: store.delete(key),  # noqa: B023
        ):
            with pytest.raises(StorageError, match=r"^key ") as caught:
                use()
            assert not isinstance(caught.value, ObjectNotFoundError)


def test_a_copy_of_a_store_is_the_same_store(shared_store):
    shared_store.put_if_absent("key", b"x")
    copy = pickle.loads(pickle.dumps(shared_store))
    assert copy.url == shared_store.url
    assert copy.get("key") == b"x"


def test_the_probe_accepts_and_leaves_nothing(store):
    check_store(store)
    assert store.list("").keys == ()
