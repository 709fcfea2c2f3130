"""What nobody commits is dropped, and nothing else, whatever happens meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from faulty_store import Fault, FaultyStore
from federations import BASE_MODEL, make_delta, make_federation, make_manifest, open_round

from coldfuse.core.blob import Part
from coldfuse.core.round import Closed
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import CodecError, ColdfuseError, GatewayBusyError
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.intake import Intake, sender_of
from coldfuse.gateway.leftovers import COLLECTING, Announcement, find_named
from coldfuse.gateway.sent import find_lists
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import object_key
from coldfuse.registry.signed import write_signed
from coldfuse.storage import MemoryStore
from coldfuse.trust.keys import PrivateKey

ADA, BOB = sender_of("ada's", "10.0.0.1"), sender_of("bob's", "10.0.0.2")


class Door:
    """A gateway's intake, and what a test does with it."""

    def __init__(self, store=None, **settings) -> None:
        self.store = store or MemoryStore()
        self.federation: Federation = make_federation(self.store)
        open_round(self.federation)
        self.gateway = StoreGateway(self.federation, num_threads=2)
        self.intake = self.another(**settings)

    def another(self, **settings) -> Intake:
        """Return the intake of another gateway on the same store."""
        return Intake(StoreGateway(self.federation, num_threads=2), self.federation, **settings)

    def send(self, sizes, *, seed=0, sender=ADA, intake: Intake | None = None):
        delta = make_delta(sizes, seed=seed)
        start = 0
        for part in delta.blob.parts:
            data = bytearray(part.size_bytes)
            delta.read_range(memoryview(data), start)
            bring(intake or self.intake, part, bytes(data), sender=sender)
            start += part.size_bytes
        return delta.blob

    def commit(self, blob, *, sender=ADA, **changes):
        return self.intake.commit(encode(make_manifest(blob, **changes)), sender)

    def collect(self, *, meanwhile: Callable[[], object] = lambda: None, intake: Intake | None = None) -> int:
        self.intake.__exit__()  # lists are written
        return (intake or self.another()).collect(lambda _: bool(meanwhile() and False), keep_s=-1.0, settle_s=0.0)

    def has(self, blob) -> list[bool]:
        return [self.store.head(object_key(part.digest)) is not None for part in blob.parts]


def bring(intake: Intake, part: Part, data: bytes, *, sender=ADA) -> None:
    upload = intake.begin_upload(part, sender)
    upload.write(data)
    upload.finish()


def test_what_nobody_commits_is_dropped_and_what_was_committed_stays():
    door = Door()
    kept, dropped = door.send([10, 20]), door.send([30], seed=1)
    door.commit(kept)
    assert door.collect() == 1
    assert (door.has(kept), door.has(dropped)) == ([True, True], [False])
    assert list(find_lists(door.store)) == []
    assert door.store.head(COLLECTING) is None
    assert door.collect() == 0


def test_a_young_part_stays():
    door = Door()
    blob = door.send([10])
    door.intake.__exit__()
    assert door.another().collect(lambda _: False, keep_s=3600.0, settle_s=0.0) == 0
    assert door.has(blob) == [True]
    assert len(list(find_lists(door.store))) == 1


def test_a_contribution_whose_lists_another_gateway_wrote_is_kept():
    door = Door()
    blob, other = door.send([10, 20]), door.another()
    door.intake.__exit__()
    other.commit(encode(make_manifest(blob)), ADA)
    assert list(find_lists(door.store)) == []


def test_a_list_that_outlives_its_commit_drops_nothing():
    door = Door()
    blob = door.send([10, 20])
    door.intake.__exit__()
    door.another().commit(encode(make_manifest(blob)), BOB)  # somebody else's lists are not looked for
    assert len(list(find_lists(door.store))) == 1
    assert door.collect() == 0
    assert door.has(blob) == [True, True]
    assert list(find_lists(door.store)) == []


def test_what_is_sent_again_before_the_drop_stays():
    door, again = Door(), []
    blob = door.send([10])

    def meanwhile():
        other = door.another()  # knows of the announcement, and refuses at first
        with pytest.raises(GatewayBusyError, match="send them again in some minutes"):
            door.send([10], sender=BOB, intake=other)
        again.append(door.send([10], sender=BOB))  # had looked just before the announcement
        door.intake.__exit__()

    door.intake._condemned.check([])
    assert door.collect(meanwhile=meanwhile) == 0
    assert (door.has(blob), len(again)) == ([True], 1)


def test_what_is_committed_before_the_drop_stays():
    door = Door()
    blob = door.send([10, 20])
    door.intake._gateway._committer._condemned.check([])  # looked just before the announcement
    assert door.collect(meanwhile=lambda: door.commit(blob)) == 0
    assert door.has(blob) == [True, True]


def test_a_commit_of_what_is_being_dropped_is_told_to_come_again():
    door = Door()
    blob = door.send([10])

    def meanwhile():
        with pytest.raises(GatewayBusyError, match="being dropped at this moment"):
            door.another().commit(encode(make_manifest(blob)), ADA)

    assert door.collect(meanwhile=meanwhile) == 1
    assert door.federation.journal(1).state().received == {}


def test_nothing_is_dropped_while_a_release_is_made():
    door = Door()
    blob = door.send([10])
    journal = door.federation.journal(1)
    journal.state()
    assert door.collect(meanwhile=lambda: journal.append(Closed(contributions=(), closed_at_s=1.0, reason="test"))) == 0
    assert door.has(blob) == [True]


def test_what_the_base_is_made_of_cannot_be_dropped_by_sending_it():
    door = Door()
    part = Part(digest=sha256(BASE_MODEL), size_bytes=len(BASE_MODEL))
    bring(door.intake, part, BASE_MODEL)
    assert door.collect() == 0
    assert door.store.head(object_key(part.digest)) is not None


def test_a_release_may_hold_what_somebody_sent_before_it():
    door = Door()
    blob = door.send([10])
    base = door.federation.release(0)
    door.federation.publish(
        base.model_copy(
            update={"release": 1, "parent": 0, "round": 1, "files": base.files | {"more.safetensors": blob}}
        )
    )
    assert door.collect() == 0
    assert door.has(blob) == [True]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: data.replace(b"1", b"2")])
def test_where_a_manifest_is_damaged_nothing_is_dropped(damage):
    door = Door()
    committed, other = door.send([10]), door.send([20], seed=1)
    key = object_key(door.commit(committed).contribution)
    data = door.store.get(key)
    door.store.delete(key)
    door.store.put_if_absent(key, damage(data))
    with pytest.raises(CodecError, match="nobody knows which parts it names"):
        door.collect()
    assert (door.has(committed), door.has(other)) == ([True], [True])
    assert door.store.head(COLLECTING) is None


def test_where_a_journal_is_cut_nothing_is_dropped():
    door = Door()
    blob = door.send([10])
    key = next(key for key in door.store.list("rounds/00001/journal/").keys if key.endswith("opened"))
    data = door.store.get(key)
    door.store.delete(key)
    door.store.put_if_absent(key, data[:-5])
    with pytest.raises(CodecError, match="nobody knows what it names"):
        find_named(door.store, [blob.parts[0].digest])


def test_what_a_signed_journal_alone_names_stays():
    """Signed entries are text in base64: what they name has to be found all the same."""
    door, link = Door(), "rounds/00001/journal/00000001-admitted"
    blob = door.send([1000, 500])
    digests = [part.digest for part in blob.parts]
    assert find_named(door.store, digests) == set()
    named = json.dumps({"entry": {"admissions": digests}}).encode()
    door.store.put_if_absent(link, write_signed(named, "journal", [PrivateKey.generate()]))
    assert find_named(door.store, digests) == set(digests)
    assert door.collect() == 0
    assert door.has(blob) == [True, True]


def test_a_cut_signature_stops_nobody_from_dropping():
    door = Door()
    blob = door.send([10])
    for name in ("00000.sig", "00000.model.sig"):
        door.store.put_if_absent(f"releases/{name}", b'{"payload')
    assert find_named(door.store, [blob.parts[0].digest]) == set()


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.FALSE_NOT_FOUND, Fault.LOST_ANSWER])
def test_a_collector_that_fails_at_any_operation_loses_nothing(fault):
    operations = {Fault.ERROR: "*", Fault.FALSE_NOT_FOUND: "get", Fault.LOST_ANSWER: "*"}
    fired = True
    n = 0
    while fired:
        n += 1
        door = Door(FaultyStore(MemoryStore()))
        committed, other = door.send([10, 20]), door.send([30], seed=1)
        door.commit(committed)
        door.intake.__exit__()
        door.store.arm(operations[fault], fault, at=n)
        try:
            door.another().collect(lambda _: False, keep_s=-1.0, settle_s=0.0)
        except ColdfuseError:
            pass
        fired = door.store.num_fired > 0
        door.store.heal()
        assert door.has(committed) == [True, True]
        for _ in range(2):  # a dead one's announcement is forgotten first
            if (left := door.store.head(COLLECTING)) is not None:
                assert left.size_bytes
                door.store.delete(COLLECTING)
            door.collect()
        assert (door.has(committed), door.has(other)) == ([True, True], [False])
    assert n > 3


def test_a_dead_collectors_announcement_ends():
    door = Door()
    blob = door.send([10])
    door.store.put_if_absent(COLLECTING, encode(Announcement(digests=("0" * 64,), announced_at_s=1.0)))
    assert door.collect() == 0  # which removes it
    assert door.collect() == 1
    assert door.has(blob) == [False]


def test_two_collectors_do_not_drop_at_once():
    door = Door()
    door.send([10])
    counts = []
    assert door.collect(meanwhile=lambda: counts.append(door.collect())) == 1
    assert counts == [0]


def test_what_is_uncommitted_is_bounded_in_all_and_for_one_caller():
    door = Door(max_uncommitted_bytes=100)
    door.send([50])
    with pytest.raises(GatewayBusyError, match="half of that from one place; commit what you have sent"):
        door.send([1], seed=1)
    door.send([50], seed=2, sender=BOB)
    with pytest.raises(GatewayBusyError, match="101 bytes would lie here that nobody has committed"):
        door.send([1], seed=3, sender=sender_of("cy's", "10.0.0.3"))
    door.commit(make_delta([50]).blob)
    door.send([30], seed=4, sender=sender_of("cy's", "10.0.0.3"))


def test_the_bound_counts_what_other_gateways_took():
    door = Door()
    door.send([50])
    door.intake.__exit__()
    with pytest.raises(GatewayBusyError):
        door.send([10], seed=1, intake=door.another(max_uncommitted_bytes=100))
