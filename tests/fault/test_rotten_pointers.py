"""Rot in what is not named by its SHA-256: pointers, heads, entries, manifests, settings, the lease."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from rot import HOW, rot
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model, naive_mean, read_release

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.core.round import Abandoned, Opened, RoundState
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.gateway import Decision, StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.lease import KEY as LEASE
from coldfuse.registry.lease import Lease
from coldfuse.registry.settings import write_change
from coldfuse.storage import LocalStore

MODEL = make_model()
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(("ada", "ben"))}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads are repeated at once."""
    monkeypatch.setattr("coldfuse.tensors.rereading._PAUSE_S", 0.0)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Return one whose first round is open, with one contribution of two."""
    made = make_federation(tmp_path, MODEL)
    lead(made)
    contribute(made, "ada", CHANGES["ada"])
    lead(made)
    return made


def reopened(federation: Federation) -> Federation:
    """Return the federation as a process finds it that starts now."""
    return open_federation(LocalStore(federation.store.url))


def finish(federation: Federation) -> Federation:
    """Lead the first round to its end in a process that starts now."""
    federation = reopened(federation)
    contribute(federation, "ben", CHANGES["ben"])
    lead(federation)
    return federation


def leader_keys(federation: Federation, number: int = 1) -> list[str]:
    keys = federation.store.list(f"rounds/{number:05d}/journal/").keys
    return [key for key in keys if not key.endswith("-received")]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("key", ["rounds/00001/head", "channels/latest", "releases/00000.json", LEASE])
def test_a_federation_goes_on_after_rot_in_a_pointer(federation: Federation, key: str, how: str) -> None:
    if key == LEASE:
        lease = Lease(federation.store, ttl_s=60.0)
        lease.try_acquire()
        lease.release()
    rot(federation, key, how)
    done = finish(federation)
    assert read_release(done) == naive_mean(MODEL, list(CHANGES.values()))
    assert StoreGateway(done).status().latest.number == 1
    assert len(leader_keys(done)) == len({key.rpartition("/")[2][:8] for key in leader_keys(done)}) == 6


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("index", [0, 1])
def test_an_open_round_decides_anew_what_a_damaged_entry_said(federation: Federation, index: int, how: str) -> None:
    key = leader_keys(federation)[index]
    rot(federation, key, how)
    done = finish(federation)
    assert read_release(done) == naive_mean(MODEL, list(CHANGES.values()))
    assert {a.contributor for a in done.journal(1).state().admitted.values()} == {"ada", "ben"}


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_damaged_record_of_a_contribution_is_made_of_its_manifest(federation: Federation, how: str) -> None:
    for key in federation.store.list("rounds/00001/journal/").keys:
        if key.endswith("-received"):
            rot(federation, key, how)
    assert [r.contributor for r in reopened(federation).journal(1).state().received.values()] == ["ada"]
    assert read_release(finish(federation)) == naive_mean(MODEL, list(CHANGES.values()))


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
@pytest.mark.parametrize("event", ["opened", "admitted", "closed", "fused"])
def test_what_was_fused_is_published_whatever_entry_rots_before(federation: Federation, event: str, how: str) -> None:
    contribute(federation, "ben", CHANGES["ben"])
    lead(federation)
    model = federation.latest().model_digest
    whole = federation.journal(1).state()
    for key in [key for key in leader_keys(federation) if key.endswith(event)]:
        rot(federation, key, how)
    state = reopened(federation).journal(1).state()
    assert set(state.admitted) == set(whole.admitted) or event != "admitted"
    assert (state.closed and state.closed.contributions) == (whole.closed and whole.closed.contributions)
    lead(reopened(federation))
    assert reopened(federation).latest().model_digest == model
    verdict = StoreGateway(reopened(federation)).verdict(1, next(iter(whole.admitted)))
    assert verdict.decision is Decision.ADMITTED


def test_a_sequence_stays_one_when_two_leaders_mend_a_head(federation: Federation) -> None:
    first, second = federation.journal(1), federation.journal(1)
    first.state(), second.state()
    rot(federation, "rounds/00001/head", "cut")
    mended = [journal.mend_head() for journal in (first, second)]
    assert mended == [True, False]  # the second finds it mended
    first.append(Abandoned(reason="one leader"))
    with pytest.raises(Exception, match="another aggregator wrote 'abandoned' meanwhile"):
        second.append(Abandoned(reason="the other"))


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_damaged_settings_are_those_of_their_copy_with_the_last_change(federation: Federation, how: str) -> None:
    gateway = StoreGateway(federation)
    _, etag = federation.store.get_with_etag("federation.json")
    wanted = federation.settings.changeable.model_copy(update={"quorum": 1})
    changed = write_change(federation.store, federation.settings, etag, wanted, by="me", after_release=0)
    rot(federation, "federation.json", how)
    assert reopened(federation).settings == changed
    assert gateway.status().latest.number == 0


def test_a_flipped_bit_in_any_byte_of_a_pointer_is_seen(federation: Federation) -> None:
    """Whatever bit flips, the pointer either says what it said, or is known to be damaged and made anew."""
    path = Path(federation.store.url) / "channels/latest"
    whole, expected = path.read_bytes(), federation.channel("latest")
    path.chmod(0o644)
    for index in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[index] ^= 1 << bit
            path.write_bytes(damaged)
            assert federation.channel("latest") == expected, bytes(damaged)


def test_a_service_starts_on_a_store_whose_pointers_are_all_empty(federation: Federation) -> None:
    contribute(federation, "ben", CHANGES["ben"])
    for key in ("channels/latest", "rounds/00001/head", "federation.json"):
        rot(federation, key, "empty")
    settings, stop = AggregatorSettings(rounds=1, poll_s=0.01, lease_ttl_s=0.2), threading.Event()
    events = list(serve_rounds(reopened(federation), ThreadExecutor(1), settings, stop=stop))
    assert [event.event for _, event in events] == ["admitted", "closed", "fused", "published"]
    assert reopened(federation).channel("latest").release == 1


def test_a_damaged_lease_is_free_after_its_time(federation: Federation) -> None:
    leader, other = Lease(federation.store, ttl_s=30.0), Lease(federation.store, ttl_s=0.2)
    assert leader.try_acquire() is None
    leader._stop.set()  # killed
    rot(federation, LEASE, "cut")
    assert other.try_acquire() is not None
    deadline = threading.Event()
    for _ in range(200):
        if other.try_acquire() is None:
            break
        deadline.wait(0.05)
    else:
        pytest.fail("the lease stayed taken")
    other.release()


def test_a_lost_entry_of_a_round_that_has_not_begun_is_no_state(federation: Federation) -> None:
    rot(federation, leader_keys(federation)[0], "empty")
    state = reopened(federation).journal(1).state()
    assert isinstance(state, RoundState)
    assert state.opened is None
    assert isinstance(lead(reopened(federation))[0], Opened)
