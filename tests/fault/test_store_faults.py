"""A store that fails in passing, below the Protocol: every operation and every fault, starts, and whole rounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_store import APPLIES, TRANSIENT, Fault, FaultyStore, installed
from tiny_rounds import make_changes, make_contribution, make_federation, make_model

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.cli.source import start_on
from coldfuse.core.round import LeaderEvent
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError, UnsuitableStoreError
from coldfuse.gateway.store import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore, MemoryStore, PatientStore, check_store, ensure_suitable, wait_for
from coldfuse.storage.base import ObjectStore

LIMIT_S = 60.0
MODEL = make_model()
NAMES = ("ada", "ben", "cy")
ENDS_ITS_WRITER = {("write", Fault.ERROR), ("commit", Fault.ERROR), ("commit", Fault.FALSE_CONFLICT)}
IS_BELIEVED = ("head", Fault.FALSE_NOT_FOUND)
EVERY_FAULT = [
    (operation, fault)
    for fault in (*TRANSIENT, Fault.SLOW)
    for operation in APPLIES[fault]
    if (operation, fault) not in ENDS_ITS_WRITER | {IS_BELIEVED}
]


@pytest.fixture(params=[LocalStore, MemoryStore], ids=["local", "memory"])
def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> FaultyStore:
    return FaultyStore(MemoryStore() if request.param is MemoryStore else LocalStore(tmp_path / "store"))


def use(store: ObjectStore) -> None:
    """Call every operation once or more, and look at what each says and leaves."""
    assert store.put_if_absent("objects/a", b"aaa") is True
    assert store.put_if_absent("objects/a", b"bbb") is False
    first = store.compare_and_swap("pointer", b"1", etag=None)
    second = store.compare_and_swap("pointer", b"2", etag=first)
    for stale in (None, first):
        with pytest.raises(ConflictError):
            store.compare_and_swap("pointer", b"3", etag=stale)
    assert store.get_with_etag("pointer") == (b"2", second)
    with store.open_writer("objects/b") as writer:
        writer.write(b"bb")
        assert writer.commit() is True
    buffer = bytearray(2)
    store.read_into("objects/a", memoryview(buffer), start=1)
    assert (bytes(buffer), store.get("objects/b", start=1)) == (b"aa", b"b")
    assert store.list("").keys == ("objects/a", "objects/b", "pointer")
    with pytest.raises(ObjectNotFoundError):
        store.get("objects/c")
    store.delete("pointer")
    assert store.list("").keys == ("objects/a", "objects/b")


@pytest.mark.parametrize(("operation", "fault"), EVERY_FAULT, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("at", [1, 2])
def test_one_fault_of_any_operation_changes_nothing(faulty: FaultyStore, operation: str, fault: Fault, at: int) -> None:
    faulty.arm(operation, fault, at=at)
    try:
        use(PatientStore(faulty))
    finally:
        is_reached = faulty.calls[operation] >= at
    assert faulty.fired[operation, fault] == is_reached


@pytest.mark.parametrize(("operation", "fault"), sorted(ENDS_ITS_WRITER, key=str), ids=str)
def test_a_writer_that_fails_leaves_nothing_and_another_one_writes(
    faulty: FaultyStore, operation: str, fault: Fault
) -> None:
    faulty.arm(operation, fault)
    store = PatientStore(faulty)

    def write() -> bool:
        with store.open_writer("key") as writer:
            writer.write(b"x")
            return writer.commit()

    with pytest.raises(StorageError, match="try again") as caught:
        write()
    assert caught.value.may_pass
    assert (faulty.num_fired, faulty.list("").keys) == (1, ())
    assert write() is True


def test_what_is_missing_for_good_and_what_fails_for_good_is_said_soon(faulty: FaultyStore) -> None:
    store = PatientStore(faulty)
    with pytest.raises(ObjectNotFoundError):
        store.get("key")
    assert faulty.calls["get"] == 4
    faulty.arm("get", Fault.ERROR, probability=1.0)
    with pytest.raises(StorageError, match="injected error"):
        store.get("key")
    assert faulty.calls["get"] == 4 + 8


@pytest.mark.parametrize("seed", range(4))
def test_many_writers_under_many_faults_lose_nothing(seed: int) -> None:
    faulty = FaultyStore(MemoryStore(), seed=seed)
    for fault in TRANSIENT:
        faulty.arm("*", fault, probability=0.1)
    store = PatientStore(faulty)
    store.compare_and_swap("counter", b"", etag=None)
    won: list[bytes] = []

    def write(name: int) -> None:
        for number in range(10):
            own = b"%d-%d " % (name, number)
            until(lambda: store.put_if_absent(f"objects/{name}-{number}", own) in (True, False))  # noqa: B023
            until(lambda: append(own))  # noqa: B023
            won.append(own)

    def append(own: bytes) -> str:
        data, etag = store.get_with_etag("counter")
        return store.compare_and_swap("counter", data + own, etag=etag)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert faulty.num_fired > 20
    written = set(faulty.inner.get("counter").split())  # one twice: others followed before it could be settled
    assert sorted(written) == sorted(own.strip() for own in won)
    assert len(won) == 40
    for own in written:
        assert faulty.inner.get(f"objects/{own.decode()}").strip() == own


# Starts


@pytest.mark.parametrize("probability", [0.05, 0.2])
def test_a_store_that_fails_in_passing_is_never_called_unsuitable(probability: float) -> None:
    for seed in range(5):
        faulty = FaultyStore(MemoryStore(), seed=seed)
        arm_all(faulty, probability)
        assert wait_for(lambda: ensure_suitable(PatientStore(faulty)), print) is None  # noqa: B023
        assert faulty.num_fired > 5
        assert [key.split("/")[0] for key in faulty.inner.list("").keys if not key.startswith("uploads/")] == ["probes"]


class Deaf(MemoryStore):
    """Overwrites what is there."""

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        self._objects[key] = bytes(data)
        return True


def test_a_store_that_breaks_its_promise_is_found_out_under_faults_too() -> None:
    for seed in range(5):
        faulty = FaultyStore(Deaf(), seed=seed)
        arm_all(faulty, 0.05)
        with pytest.raises(UnsuitableStoreError, match="overwrites an object"):
            check_store(PatientStore(faulty))


def test_a_store_is_probed_once_and_a_full_one_that_was_is_started_on() -> None:
    faulty = FaultyStore(MemoryStore())
    assert ensure_suitable(faulty) is None
    faulty.arm("put_if_absent", Fault.ERROR, probability=1.0)
    num_calls = faulty.num_calls
    assert ensure_suitable(faulty) is None
    assert faulty.num_calls == num_calls + 1


class Full(MemoryStore):
    """Takes nothing."""

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        raise StorageError("the disk is full; free some space", is_full=True)


def test_a_full_store_that_was_never_probed_is_started_on_with_a_word() -> None:
    assert "cannot be told now: the disk is full" in (ensure_suitable(PatientStore(Full())) or "")


@pytest.mark.parametrize("probability", [0.05, 0.2])
def test_every_start_succeeds_on_a_store_that_fails_in_passing(tmp_path: Path, probability: float) -> None:
    federation = make_federation(tmp_path, MODEL)
    for seed in range(10):
        faulty = FaultyStore(federation.store, seed=seed)
        arm_all(faulty, probability)
        with installed(faulty):
            opened = start_on(faulty.url)
            assert wait_for(lambda: ensure_suitable(opened.store), print) is None  # noqa: B023
            with StoreGateway(opened) as gateway:
                assert wait_for(gateway.status, print).latest.number == 0


# Whole rounds


@pytest.fixture
def stopped() -> Iterator[threading.Event]:
    stop = threading.Event()
    yield stop
    stop.set()


@pytest.mark.parametrize("seed", range(3))
def test_a_round_under_all_faults_loses_nothing_and_ends_in_the_same_bytes(
    tmp_path: Path, stopped: threading.Event, seed: int
) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=len(NAMES))
    wanted = run_round(make_federation(tmp_path / "calm", MODEL, quorum=len(NAMES)), stopped)
    faulty = FaultyStore(federation.store, seed=seed, slow_s=0.005)
    arm_all(faulty, 0.05)
    for fault in (Fault.SLOW, Fault.STALE_LIST):
        faulty.arm("*", fault, probability=0.05)
    with installed(faulty):
        got = run_round(Federation(PatientStore(faulty), federation.settings), stopped)
    assert got == wanted
    assert faulty.num_fired > 10


def run_round(federation: Federation, stop: threading.Event) -> str:
    """Lead a round while three contribute; look that each has one verdict, and return the release's digest."""
    events: list[LeaderEvent] = []
    settings = AggregatorSettings(rounds=1, poll_s=0.05, lease_ttl_s=5.0)

    def serve() -> None:
        events.extend(event for _, event in serve_rounds(federation, ThreadExecutor(2), settings, stop=stop))

    thread = threading.Thread(target=serve)
    thread.start()
    with StoreGateway(federation) as gateway:
        until(lambda: gateway.status().round.is_open)
        sent = []
        for number, name in enumerate(NAMES):
            manifest = until(lambda: make_contribution(federation, name, make_changes(MODEL, number)))  # noqa: B023
            until(lambda: gateway.commit(manifest))  # noqa: B023
            sent.append(manifest)
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    state = until(federation.journal(1).state)
    assert len(state.received) == len(state.admitted) == len(sent)
    assert not state.rejected
    return until(lambda: federation.release(1)).model_digest


def until(step: Callable[[], object]):
    """Try until it gives something, as who wants something of a store that fails more often than it is patient."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            if (result := step()) or time.monotonic() > end:
                return result
        except StorageError:
            if time.monotonic() > end:
                raise
        time.sleep(0.01)


def arm_all(faulty: FaultyStore, probability: float) -> None:
    """Let operations of every kind fail in every passing way, this often in all."""
    for fault in TRANSIENT:
        faulty.arm("*", fault, probability=probability / len(TRANSIENT))
