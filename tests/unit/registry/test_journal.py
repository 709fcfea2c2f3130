from __future__ import annotations

import json

import pytest
from faulty_store import FaultyStore
from federations import make_federation

from coldfuse.core.round import Abandoned, Closed, Opened, Published, Received, Rejected
from coldfuse.core.serialization import sha256
from coldfuse.errors import ConflictError, StorageError
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.storage import MemoryStore

OPENED = Opened(base_release=0, base_digest=sha256(b"base"), opened_at_s=1.0)
CLOSED = Closed(contributions=(), reason="enough")
ABANDONED = Abandoned(reason="too few")


class TornStore(MemoryStore):
    """Dies once, after a head was swapped and before its entry was written."""

    fired = 0

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        if "/journal/" in key and not key.endswith("-received") and not self.fired:
            self.fired += 1
            raise StorageError("injected")
        return super().put_if_absent(key, data)


def received(number: int) -> Received:
    return Received(contribution=sha256(bytes([number])), contributor=f"c{number}", received_at_s=float(number))


def keys(store: MemoryStore) -> list[str]:
    return list(store.list("rounds/").keys)


def test_entries_are_one_sequence_of_immutable_objects() -> None:
    store = MemoryStore()
    journal = Journal(store, 7)
    for event in (OPENED, CLOSED, Published(release=1)):
        journal.append(event)
    assert keys(store) == [
        "rounds/00007/head",
        "rounds/00007/journal/00000000-opened",
        "rounds/00007/journal/00000001-closed",
        "rounds/00007/journal/00000002-published",
    ]
    state = Journal(store, 7).state()
    assert (state.opened, state.closed, state.published) == (OPENED, CLOSED, Published(release=1))


def test_an_empty_journal_has_no_head_and_no_state() -> None:
    journal = Journal(MemoryStore(), 1)
    assert journal.head() is None
    assert journal.state().opened is None


def test_of_two_leaders_one_appends() -> None:
    store = MemoryStore()
    Journal(store, 1).append(OPENED)
    first, second = Journal(store, 1), Journal(store, 1)
    first.state()
    second.state()
    first.append(CLOSED)
    with pytest.raises(ConflictError, match="another aggregator wrote 'closed' meanwhile"):
        second.append(ABANDONED)
    assert second.state().abandoned is None
    assert second.state() == first.state()


def test_a_leader_that_never_read_cannot_append() -> None:
    store = MemoryStore()
    Journal(store, 1).append(OPENED)
    with pytest.raises(ConflictError, match="another aggregator wrote 'opened'"):
        Journal(store, 1).append(CLOSED)


def test_two_leaders_that_open_at_once_open_once() -> None:
    class Racing(MemoryStore):
        """Lets another leader in between a look at the head and its swap."""

        def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
            if other:
                Journal(self, 1).append(other.pop())
            return super().compare_and_swap(key, data, etag=etag)

    store, other = Racing(), [OPENED]
    with pytest.raises(ConflictError):
        Journal(store, 1).append(OPENED.model_copy(update={"opened_at_s": 2.0}))
    assert Journal(store, 1).state().opened == OPENED


@pytest.mark.parametrize("heal", ["state", "append"])
def test_a_crash_between_head_and_entry_is_healed_by_the_next_reader(heal: str) -> None:
    store = TornStore()
    with pytest.raises(StorageError, match="injected"):
        Journal(store, 1).append(OPENED)
    assert (store.fired, keys(store)) == (1, ["rounds/00001/head"])
    healer = Journal(store, 1)
    assert healer.state().opened == OPENED
    if heal == "append":
        healer.append(CLOSED)
        assert Journal(store, 1).state().closed == CLOSED
    assert "rounds/00001/journal/00000000-opened" in keys(store)


def test_nobody_writes_over_an_entry_that_is_only_announced() -> None:
    store = TornStore()
    with pytest.raises(StorageError, match="injected"):
        Journal(store, 1).append(OPENED)
    with pytest.raises(ConflictError):
        Journal(store, 1).append(ABANDONED)
    assert Journal(store, 1).state().opened == OPENED


def test_the_one_who_died_knows_its_entry_when_it_is_back() -> None:
    store = TornStore()
    journal = Journal(store, 1)
    with pytest.raises(StorageError, match="injected"):
        journal.append(OPENED)
    assert journal.state().opened == OPENED
    journal.append(CLOSED)
    assert journal.head().seq == 1  # type: ignore[union-attr]


def test_a_contribution_is_recorded_once() -> None:
    journal = Journal(MemoryStore(), 1)
    again = received(1).model_copy(update={"received_at_s": 99.0})
    assert [journal.receive(received(1)), journal.receive(again)] == [True, False]
    assert journal.has_received(received(1).contribution)
    assert not journal.has_received(received(2).contribution)
    assert list(journal.state().received.values()) == [received(1)]


def test_contributions_are_recorded_while_a_leader_appends() -> None:
    store = MemoryStore()
    leader, gateway = Journal(store, 1), Journal(store, 1)
    leader.append(OPENED)
    gateway.receive(received(1))
    leader.append(CLOSED)
    gateway.receive(received(2))
    assert set(leader.state().received) == {received(1).contribution, received(2).contribution}
    assert leader.state() == gateway.state() == Journal(store, 1).state()


def test_a_journal_of_many_pages_is_read_whole() -> None:
    store = MemoryStore()
    journal = Journal(store, 1)
    journal.append(OPENED)
    contributions = [sha256(number.to_bytes(2, "big")) for number in range(1500)]
    for digest in contributions:
        journal.receive(Received(contribution=digest, contributor="a", received_at_s=0.0))
    assert set(journal.state().received) == set(contributions)
    assert journal.state().opened == OPENED


def federation_on(store: MemoryStore) -> Federation:
    federation = make_federation(store)
    for number in range(1, 41):
        journal = federation.journal(number)
        journal.append(OPENED)
        journal.append(ABANDONED)
    return federation


def test_after_many_abandoned_rounds_a_few_looks_find_the_current_one() -> None:
    store = FaultyStore(MemoryStore())
    federation = federation_on(store)
    store.calls.clear()
    assert federation.current_round() == 41
    assert store.num_calls <= 15
    for at_least in (2, 3, 39, 40, 41, 42):
        assert federation.current_round(at_least=at_least) == max(41, at_least)


def test_a_round_stays_abandoned_when_late_contributions_get_their_verdicts() -> None:
    federation = federation_on(MemoryStore())
    late = federation.journal(40)
    late.state()
    late.append(Rejected(rejections=()))
    assert federation.current_round() == 41


def test_an_abandoned_round_of_an_older_version_is_known_for_one() -> None:
    store = MemoryStore()
    federation = make_federation(store)
    journal = federation.journal(1)
    for event in (OPENED, ABANDONED, Rejected(rejections=())):
        journal.append(event)
    data, etag = store.get_with_etag("rounds/00001/head")
    old = {"seq": 2, "entry": json.loads(data)["entry"]}
    store.compare_and_swap("rounds/00001/head", json.dumps(old).encode(), etag=etag)
    assert federation.current_round() == 2
