"""What the Protocol of `storage/base.py` promises of keys, lists and deletion, on every implementation."""

import pytest
from servers.workers import NUM_PROCESSES, churn

from coldfuse.errors import ObjectNotFoundError, StorageError
from coldfuse.storage import ObjectStore

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


def all_keys(store: ObjectStore, *, limit: int) -> list[str]:
    page = store.list("", limit=limit)
    keys = list(page.keys)
    while page.next_after is not None:
        page = store.list("", after=page.next_after, limit=limit)
        assert len(page.keys) <= limit
        keys += page.keys
    return keys


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


def test_creating_and_removing_in_one_folder_never_fails(federation_store, processes):
    for each in [processes.submit(churn, federation_store, "deep/folder", 30) for _ in range(NUM_PROCESSES)]:
        each.result(60)
    assert federation_store.list("").keys == ()


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
