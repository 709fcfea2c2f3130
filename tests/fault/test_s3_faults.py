"""A real S3 server behind a proxy that answers wrongly: every method and every fault, and that nothing stays stuck."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from federations import admit, make_delta, make_federation, make_manifest, open_round
from servers.faulty_proxy import APPLIES, FaultyProxy, Wrong
from servers.fixtures import S3Server

from coldfuse.core.round import Closed
from coldfuse.errors import ConflictError, StorageError
from coldfuse.gateway import Decision
from coldfuse.gateway.store import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.storage import PatientStore, open_store, wait_for
from coldfuse.storage.s3_settings import MIN_PART_BYTES, S3Settings

EVERY = [(method, wrong) for method, faults in APPLIES.items() if method != "POST" for wrong in faults]
MIB = 1 << 20


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.endpoint_url, silent_s=0.4) as proxy:
        yield proxy


@pytest.fixture
def store(s3_server: S3Server, proxy: FaultyProxy) -> PatientStore:
    """A store behind the proxy that tries twice below and is not patient with silence."""
    settings = S3Settings(
        endpoint_url=proxy.endpoint_url, num_attempts=2, read_timeout_s=0.3, min_bytes_per_s=4096.0,
        part_bytes=MIN_PART_BYTES,
    )  # fmt: skip
    return open_store(s3_server.fresh_url(), s3=settings)


@pytest.mark.parametrize(("method", "wrong"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_a_fault_of_any_request_changes_nothing(
    store: PatientStore, proxy: FaultyProxy, method: str, wrong: Wrong
) -> None:
    proxy.arm(method, wrong, count=3)  # more than are tried below: twice
    assert put(store, "objects/a", b"aaa") is True
    assert store.put_if_absent("objects/a", b"bbb") is False
    first = store.compare_and_swap("pointer", b"1", etag=None)
    second = store.compare_and_swap("pointer", b"2", etag=first)
    with pytest.raises(ConflictError):
        store.compare_and_swap("pointer", b"3", etag=first)
    assert store.get_with_etag("pointer") == (b"2", second)
    assert store.get("objects/a") == b"aaa"
    assert store.list("").keys == ("objects/a", "pointer")
    store.delete("pointer")
    assert store.head("pointer") is None
    assert proxy.fired[method, wrong] == 3 or method == "DELETE"


def put(store: PatientStore, key: str, data: bytes) -> bool:
    return store.put_if_absent(key, data)


@pytest.mark.parametrize("wrong", APPLIES["POST"], ids=lambda wrong: wrong.name)
def test_a_large_object_is_there_whole_or_can_be_written_again(
    store: PatientStore, proxy: FaultyProxy, wrong: Wrong
) -> None:
    data = bytes(range(256)) * (6 * MIB // 256)
    proxy.arm("POST", wrong)

    def write() -> bool:
        with store.open_writer("objects/large") as writer:
            writer.write(data)
            return writer.commit()

    assert wait_for(write, print) is not None
    assert proxy.fired["POST", wrong] == 1
    assert store.get("objects/large") == data


@pytest.mark.parametrize("wrong", [Wrong.TRUNCATED, Wrong.DRIPPING], ids=lambda wrong: wrong.name)
def test_a_large_read_goes_on_where_an_answer_stopped(store: PatientStore, proxy: FaultyProxy, wrong: Wrong) -> None:
    data = bytes(range(256)) * (11 * MIB // 256)
    assert put(store, "objects/large", data)
    proxy.arm("GET", wrong, count=2)
    buffer = bytearray(len(data))
    store.read_into("objects/large", memoryview(buffer))
    assert proxy.fired["GET", wrong] == 2
    assert buffer == data


def test_a_server_that_only_drips_is_an_error_in_the_end(store: PatientStore, proxy: FaultyProxy) -> None:
    assert put(store, "key", bytes(1000))
    proxy.arm("GET", Wrong.DRIPPING, count=1000)
    with pytest.raises(StorageError, match="fell silent") as caught:
        store.inner.read_into("key", memoryview(bytearray(1000)))
    assert caught.value.may_pass


@pytest.mark.parametrize("wrong", [Wrong.FALSE_412, Wrong.FALSE_404, Wrong.TWICE, Wrong.LOST], ids=lambda w: w.name)
def test_no_round_stays_stuck_after_false_answers(store: PatientStore, proxy: FaultyProxy, wrong: Wrong) -> None:
    delta = make_delta([100])
    federation = make_federation(store)
    open_round(federation)
    with StoreGateway(federation) as gateway:
        for _ in range(3):
            proxy.arm("PUT", wrong, count=3)
            wait_for(lambda: gateway.upload(delta.blob, delta.read_range), print)  # as a client does
            verdict = gateway.commit(make_manifest(delta.blob))
        assert verdict.decision is Decision.PENDING
        proxy.arm("PUT", wrong, count=2)
        journal = admit(federation, verdict.contribution)
        proxy.arm("PUT", wrong, count=2)
        journal.append(Closed(contributions=(verdict.contribution,), reason="quorum"))
    proxy.heal()
    assert sum(proxy.fired.values()) >= 6
    state = Federation(store, federation.settings).journal(1).state()
    assert list(state.received) == list(state.admitted) == list(state.closed.contributions) == [verdict.contribution]
    keys = store.list("rounds/").keys
    assert [key.split("/")[-1] for key in keys[1:4]] == ["00000000-opened", "00000001-admitted", "00000002-closed"]
