"""Opening stores, their settings, the sizes of parts, and the probe against stores that lie."""

import threading

import pytest

from coldfuse.errors import UnsuitableStoreError, UserInputError
from coldfuse.storage import LocalStore, MemoryStore, check_store, collect_garbage, open_store
from coldfuse.storage.s3 import S3Store
from coldfuse.storage.s3_settings import MAX_PART_BYTES, MIN_PART_BYTES, S3Settings
from coldfuse.storage.s3_writer import MAX_PARTS, part_bytes


def test_a_url_opens_its_kind_of_store(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_store("s3://bucket/some/prefix").inner, S3Store)
    assert isinstance(open_store("folder").inner, LocalStore)
    assert open_store("folder").url == str(tmp_path / "folder")
    assert open_store("s3://bucket/some/prefix").url == "s3://bucket/some/prefix"
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("url", ["", "gs://bucket", "http://host", "s3://", "s3:///prefix", "s3://b/" + "x" * 501])
def test_what_is_no_store_is_refused(url):
    with pytest.raises(UserInputError, match="store"):
        open_store(url)


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint_url": "localhost:9000"},
        {"endpoint_url": "http://"},
        {"endpoint_url": "http://user:secret@host"},
        {"part_bytes": MIN_PART_BYTES - 1},
        {"part_bytes": MAX_PART_BYTES + 1},
        {"num_attempts": 0},
        {"read_timeout_s": float("nan")},
        {"connect_timeout_s": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(UserInputError) as caught:
        S3Settings(**settings)
    assert "secret" not in str(caught.value)


def test_ten_thousand_parts_hold_the_largest_object():
    sizes = [part_bytes(number, first=S3Settings().part_bytes) for number in range(1, MAX_PARTS + 1)]
    assert sum(sizes) >= 5 * 2**40
    assert max(sizes) <= MAX_PART_BYTES
    assert sizes == sorted(sizes)
    assert set(sizes[:5000]) == {S3Settings().part_bytes}


def test_nothing_to_collect_in_memory():
    assert collect_garbage(MemoryStore(), older_than_s=0) == 0


class OverwritingStore(MemoryStore):
    def put_if_absent(self, key, data):
        self._objects[key] = bytes(data)
        return True


class StaleSwapStore(MemoryStore):
    def compare_and_swap(self, key, data, *, etag):
        head = self.head(key)
        return super().compare_and_swap(key, data, etag=head and head.etag)


class RacyCreateStore(MemoryStore):
    def put_if_absent(self, key, data):
        if threading.current_thread() is threading.main_thread():
            return super().put_if_absent(key, data)
        self._objects[key] = bytes(data)
        return True


class RacySwapStore(MemoryStore):
    def compare_and_swap(self, key, data, *, etag):
        if threading.current_thread() is threading.main_thread():
            return super().compare_and_swap(key, data, etag=etag)
        self._objects[key] = bytes(data)
        return "won"


class ForgetfulListStore(MemoryStore):
    def list(self, prefix, *, after=None, limit=1000):
        return super().list("nothing")


@pytest.mark.parametrize(
    ("store", "words"),
    [
        (OverwritingStore(), "overwrites an object"),
        (StaleSwapStore(), "although it has changed"),
        (RacyCreateStore(), "32 of 32 concurrent writers create"),
        (RacySwapStore(), "32 of 32 concurrent writers replace"),
        (ForgetfulListStore(), "does not list"),
    ],
)
def test_a_store_that_breaks_a_promise_is_refused(store, words):
    with pytest.raises(UnsuitableStoreError, match=words):
        check_store(store)
    assert store._objects == {}
