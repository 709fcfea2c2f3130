"""What only S3 needs: lost answers, errors that a person can act on, unfinished uploads, unsuitable servers."""

import os
import time

import pytest
from servers.proxy import BreakingProxy

from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError, UnsuitableStoreError
from coldfuse.storage import check_store, collect_garbage, open_store
from coldfuse.storage.s3_settings import S3Settings

MIB = 2**20


@pytest.fixture
def proxy(s3_server):
    with BreakingProxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def shaky_store(s3_server, proxy):
    return open_store(s3_server.fresh_url(), s3=S3Settings(endpoint_url=proxy.endpoint_url, part_bytes=5 * MIB))


def test_a_create_whose_answer_got_lost_counts(shaky_store, proxy):
    proxy.break_answers("PUT")
    assert shaky_store.put_if_absent("key", b"x") is True
    assert proxy.fired == 1
    assert shaky_store.put_if_absent("key", b"x") is False


def test_a_create_that_lost_says_so_although_the_bytes_are_the_same(shaky_store, proxy):
    shaky_store.put_if_absent("key", b"x")
    proxy.break_answers("PUT")
    assert shaky_store.put_if_absent("key", b"x") is False
    assert proxy.fired == 1


def test_a_swap_whose_answer_got_lost_counts(shaky_store, proxy):
    first = shaky_store.compare_and_swap("pointer", b"1", etag=None)
    proxy.break_answers("PUT")
    second = shaky_store.compare_and_swap("pointer", b"2", etag=first)
    assert proxy.fired == 1
    assert shaky_store.get_with_etag("pointer") == (b"2", second)
    proxy.break_answers("PUT")
    with pytest.raises(ConflictError):
        shaky_store.compare_and_swap("pointer", b"2", etag=first)


def test_a_create_is_found_even_if_every_answer_gets_lost(shaky_store, proxy):
    proxy.break_answers("PUT", count=5)
    assert shaky_store.put_if_absent("key", b"x") is True
    assert proxy.fired == 5


def test_a_large_object_whose_last_answer_got_lost_counts(shaky_store, proxy):
    with shaky_store.open_writer("key") as writer:
        writer.write(bytes(6 * MIB))
        proxy.break_answers("POST")
        assert writer.commit() is True
    assert proxy.fired == 1
    assert shaky_store.head("key").size_bytes == 6 * MIB


def test_an_answer_that_breaks_off_is_read_to_its_end(shaky_store, proxy):
    data = os.urandom(2 * MIB)
    shaky_store.put_if_absent("key", data)
    proxy.break_answers("GET", keep_bytes=2**16)
    assert shaky_store.get("key") == data
    proxy.break_answers("GET", count=3, keep_bytes=2**16)
    buffer = bytearray(MIB)
    shaky_store.read_into("key", memoryview(buffer), start=MIB)
    assert buffer == data[MIB:]
    assert proxy.fired == 4


def test_an_answer_that_always_breaks_off_is_an_error(s3_server, proxy):
    store = open_store(s3_server.fresh_url(), s3=S3Settings(endpoint_url=proxy.endpoint_url, num_attempts=2))
    store.put_if_absent("key", bytes(MIB))
    for read in (store.get, lambda key: store.read_into(key, memoryview(bytearray(MIB)))):
        proxy.break_answers("GET", count=10**6)
        with pytest.raises(StorageError, match="check network"):
            read("key")
    assert proxy.fired >= 4


def test_a_server_out_of_reach_is_named(s3_server):
    store = open_store("s3://bucket", s3=S3Settings(endpoint_url="http://127.0.0.1:9", num_attempts=1))
    with pytest.raises(StorageError, match=r"s3://bucket/key: .*cannot be reached; check endpoint"):
        store.head("key")


def test_a_missing_bucket_is_named(s3_server):
    store = open_store("s3://no-such-bucket-here", s3=s3_server.settings())
    for use in (
        lambda: store.head("key"),
        lambda: store.get("key"),
        lambda: store.list(""),
        lambda: store.put_if_absent("key", b""),
        lambda: store.compare_and_swap("key", b"", etag="0" * 32),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StorageError, match="bucket does not exist; create it") as caught:
            use()
        assert not isinstance(caught.value, (ObjectNotFoundError, ConflictError))


def test_wrong_credentials_are_named_and_not_shown(ceph_server, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-still-secret")
    store = open_store(ceph_server.fresh_url(), s3=ceph_server.settings())
    with pytest.raises(StorageError, match="AWS_SECRET_ACCESS_KEY") as caught:
        store.get("key")
    assert "wrong-and-still-secret" not in str(caught.value)


def test_missing_credentials_are_named(s3_server, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match="no usable credentials"):
        open_store("s3://bucket", s3=s3_server.settings()).get("key")


def test_the_address_may_come_from_the_environment(s3_url):
    store = open_store(s3_url)
    assert store.put_if_absent("key", b"x") is True
    assert open_store(store.url).get("key") == b"x"


def test_a_prefix_hides_its_neighbours(s3_server):
    url = s3_server.fresh_url()
    stores = [open_store(f"{url}/{name}", s3=s3_server.settings()) for name in ("a", "ab", "a/b")]
    for number, store in enumerate(stores):
        store.put_if_absent(f"key{number}", b"")
    assert stores[1].list("").keys == ("key1",)
    assert stores[0].list("").keys == ("b/key2", "key0")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # forking beside threads is the point
def test_a_child_process_makes_its_own_connections(s3_server):
    store = open_store(s3_server.fresh_url(), s3=s3_server.settings())
    store.put_if_absent("key", b"x")
    child = os.fork()
    if child == 0:
        os._exit(0 if store.get("key") == b"x" and store.put_if_absent("child", b"y") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get("child") == b"y"


def test_unfinished_uploads_are_collected_by_age(ceph_server):
    store = open_store(ceph_server.fresh_url(), s3=ceph_server.settings(part_bytes=5 * MIB))
    live = store.open_writer("key")
    live.write(bytes(11 * MIB))
    assert collect_garbage(store, older_than_s=60) == 0
    end = time.monotonic() + 10  # the server's clock has whole seconds
    while (num_collected := collect_garbage(store, older_than_s=1)) == 0 and time.monotonic() < end:
        time.sleep(0.1)
    assert num_collected == 1
    with pytest.raises(StorageError, match="write the object again"):
        live.commit()
    live.abort()
    assert store.list("").keys == ()


def test_a_server_that_ignores_conditions_is_refused(rclone_server):
    store = open_store(rclone_server.fresh_url(), s3=rclone_server.settings())
    with pytest.raises(UnsuitableStoreError, match="overwrites an object"):
        check_store(store)
    assert store.list("").keys == ()
