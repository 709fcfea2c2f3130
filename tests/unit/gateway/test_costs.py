"""What a contribution, a verdict and a look cost in store operations, whatever the number of contributions."""

from __future__ import annotations

from collections import Counter
from threading import Barrier

import pytest
from faulty_store import Fault, FaultyStore
from federations import admit, make_delta, make_federation, make_manifest, open_round

from coldfuse.core.retention import RetentionRules
from coldfuse.core.round import Admitted, Closed, Received, Rejected
from coldfuse.core.serialization import sha256
from coldfuse.errors import RoundClosedError, StorageError
from coldfuse.gateway import Decision
from coldfuse.gateway.garbage import collect, survey
from coldfuse.gateway.presence import KNOWN_S, Presence
from coldfuse.gateway.rounds import Rounds
from coldfuse.gateway.store import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.objects import object_key
from coldfuse.storage import MemoryStore, ObjectInfo
from coldfuse.storage.base import list_keys

DELTA = make_delta([100, 200])


def make(num_received: int) -> tuple[FaultyStore, Federation]:
    """Make a federation whose open round has received contributions, from other gateways."""
    store = FaultyStore(MemoryStore())
    federation = make_federation(store)
    open_round(federation)
    journal = federation.journal(1)
    for number in range(num_received):
        receive(journal, number)
    return store, federation


def receive(journal: Journal, number: int) -> None:
    digest = sha256(b"%d" % number)
    journal.receive(Received(contribution=digest, contributor=f"c{number}", received_at_s=float(number)))


@pytest.mark.parametrize("num_received", [0, 10, 2500])
def test_a_contribution_costs_a_gateway_seven_operations_whatever_came_before(num_received: int) -> None:
    store, federation = make(num_received)
    with StoreGateway(federation) as gateway:
        gateway.commit(make_manifest(upload(gateway, 99), contributor="warm"))  # learns which round is open
        store.calls.clear()
        for number in range(10):
            gateway.commit(make_manifest(upload(gateway, number), contributor=f"n{number}"))
        assert store.calls["list"] == 0
        assert store.calls == Counter(
            head=20, open_writer=20, write=20, commit=20, put_if_absent=20, get_with_etag=10
        ) + Counter(get=store.calls["get"])  # which round is open is read anew every half second
        assert store.num_calls - store.calls["get"] == 70


def upload(gateway: StoreGateway, number: int):
    delta = make_delta([100, 200], seed=number)
    gateway.upload(delta.blob, delta.read_range)
    return delta.blob


def test_a_part_that_others_have_sent_is_not_sent_and_not_looked_for_again() -> None:
    store, federation = make(0)
    with StoreGateway(federation) as gateway:
        gateway.upload(DELTA.blob, DELTA.read_range)
        store.calls.clear()
        gateway.upload(DELTA.blob, DELTA.read_range)
        gateway.commit(make_manifest(DELTA.blob))
        assert (store.calls["commit"], store.calls["head"]) == (0, 2)


def test_what_a_gateway_knows_of_a_part_grows_old() -> None:
    now = [0.0]
    presence, part = Presence(clock=lambda: now[0]), DELTA.blob.parts[0]
    presence.seen(part)
    assert presence.is_there(part)
    now[0] += KNOWN_S
    assert not presence.is_there(part)
    presence.missed(part, is_absent=True)
    assert [presence.take_missing(part), presence.take_missing(part)] == [True, False]
    presence.seen(part)
    presence.missed(part, is_absent=False)
    assert not presence.is_there(part)
    assert not presence.take_missing(part)


def test_a_verdict_costs_nothing_while_it_is_fresh_and_a_small_read_when_not() -> None:
    store, federation = make(2500)
    with StoreGateway(federation) as gateway:
        verdict = gateway.commit(make_manifest(upload(gateway, 0)))
        store.calls.clear()
        assert gateway.verdict(1, verdict.contribution).decision is Decision.PENDING
        assert store.num_calls <= 1
        admit(federation, verdict.contribution)
        store.calls.clear()
        assert Rounds(federation).led(1).admitted.keys() == {verdict.contribution}
        assert store.num_calls <= 3  # the head, one listing of the leader's entries, and the entry before the last


def test_a_leaders_entry_is_read_once_and_the_last_is_not_read_at_all() -> None:
    store, federation = make(2500)
    journal, leader = federation.journal(1), federation.journal(1)
    assert journal.led().is_open
    leader.state()
    store.calls.clear()
    for event in (Rejected(rejections=()), Admitted(admissions=()), Closed(contributions=(), reason="x")):
        leader.append(event)
        journal.led()
    assert store.calls == Counter(get_with_etag=6, compare_and_swap=3, put_if_absent=3)
    assert not journal.led().is_open


def test_an_open_round_of_many_is_not_listed_at_every_look_but_a_closed_one_is() -> None:
    now = [0.0]
    store, federation = make(2500)
    journal = Journal(store, 1, clock=lambda: now[0])
    assert len(journal.state(max_age_s=None).received) == 2500
    receive(federation.journal(1), 2500)
    store.calls.clear()
    assert len(journal.state(max_age_s=None).received) == 2500
    assert store.calls["list"] == 0
    assert len(journal.state().received) == 2501  # who asks for the newest gets it
    receive(federation.journal(1), 2501)
    now[0] += 1.0  # half a second for each page after the first
    assert len(journal.state(max_age_s=None).received) == 2502
    receive(federation.journal(1), 2502)
    journal.append(Closed(contributions=(), reason="x"))
    assert len(journal.state(max_age_s=None).received) == 2503


def test_a_round_of_few_is_listed_at_every_look() -> None:
    store, federation = make(10)
    journal = Journal(store, 1, clock=lambda: 0.0)
    for number in range(10, 13):
        receive(federation.journal(1), number)
        assert len(journal.state(max_age_s=None).received) == number + 1


def test_no_commit_is_acknowledged_on_what_was_read_before_the_round_closed() -> None:
    store, federation = make(0)
    with StoreGateway(federation) as gateway:
        first = gateway.commit(make_manifest(upload(gateway, 0)))
        leader = federation.journal(1)
        leader.state()
        leader.append(Closed(contributions=(), reason="quorum"))
        blob = upload(gateway, 1)  # what the gateway knows of the round is a moment old, and says that it is open
        with pytest.raises(RoundClosedError, match="closed before this contribution arrived"):
            gateway.commit(make_manifest(blob, contributor="ben"))
        with pytest.raises(RoundClosedError, match="closed before this contribution arrived"):
            gateway.commit(make_manifest(upload(gateway, 0)))
    assert first.decision is Decision.PENDING
    assert store.fired == Counter()


def test_a_listing_that_is_stale_hides_no_entry_of_the_leaders() -> None:
    store, federation = make(0)
    leader = federation.journal(1)
    leader.state()
    for event in (Rejected(rejections=()), Closed(contributions=(), reason="x"), Rejected(rejections=())):
        leader.append(event)
    store.arm("list", Fault.STALE_LIST)
    reader = federation.journal(1)
    try:
        state = reader.led()
    except StorageError:  # it may say that an entry is missing, and must not say that the round is open
        state = reader.led()
    assert store.num_fired == 1
    assert state.closed is not None


def test_a_part_that_a_store_once_fails_to_find_is_no_reason_to_refuse() -> None:
    store, federation = make(0)
    with StoreGateway(federation) as sender:
        sender.upload(DELTA.blob, DELTA.read_range)
    with StoreGateway(federation) as gateway:  # another one, which has seen no part
        store.arm("head", Fault.FALSE_NOT_FOUND, prefix="objects/")
        assert gateway.commit(make_manifest(DELTA.blob)).decision is Decision.PENDING
    assert store.num_fired == 1


def test_what_is_left_over_costs_a_survey_two_requests_each() -> None:
    store, federation = make(0)
    survey(federation, RetentionRules())
    store.calls.clear()
    survey(federation, RetentionRules())
    before = store.calls.copy()
    put_left_over(federation, 40)
    store.calls.clear()
    assert survey(federation, RetentionRules()).num_objects.total() == 40
    assert store.calls - before == Counter(head=40, get=40)  # its size, and whether it begins as a manifest does


class Meeting(MemoryStore):
    """A store that answers about what is left over, and removes it, only to sixteen callers at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()
        self.barrier = Barrier(16, timeout=60.0)

    def head(self, key: str) -> ObjectInfo | None:
        if key in self.keys:
            self.barrier.wait()
        return super().head(key)

    def delete(self, key: str) -> None:
        if key in self.keys:
            self.barrier.wait()
        super().delete(key)


def test_what_is_left_over_is_looked_at_and_removed_sixteen_at_a_time() -> None:
    store = Meeting()
    federation = make_federation(store)
    open_round(federation)
    store.keys = put_left_over(federation, 64)
    found = collect(federation, RetentionRules(), settle_s=0.0, wait=lambda _: None)
    assert found.num_objects.total() == 64
    assert not store.keys & set(list_keys(store, "objects/"))


def put_left_over(federation: Federation, number: int) -> set[str]:
    data = [b"left over %d" % each for each in range(number)]
    for each in data:
        federation.objects.put(sha256(each), each)
    return {object_key(sha256(each)) for each in data}
