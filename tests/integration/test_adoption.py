"""A federation without a root is given one: what is older stays as it is, and all that is newer is signed."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from dying_store import DyingStore, KilledError
from rooted import RootedFederation, make_keys
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.core.federation import Adopted
from coldfuse.core.round import Abandoned, Closed, Published
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import FederationError, NotAllowedError, SignatureError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.adoption import adopt
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.lease import Lease
from coldfuse.registry.members import read_members
from coldfuse.storage import LocalStore
from coldfuse.trust.channel import SignedChannel

MODEL = make_model()
KEYS = make_keys()


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without a root: release 1, and round 2 open with one contribution that was admitted."""
    folder = tmp_path_factory.mktemp("grown")
    federation = make_federation(folder, MODEL, quorum=2)
    lead(federation, 1)
    for seed, name in enumerate(("ada", "ben")):
        contribute(federation, name, make_changes(MODEL, seed))
    lead(federation, 1)
    lead(federation, 2)
    contribute(federation, "ada", make_changes(MODEL, 2))
    lead(federation, 2)
    return folder / "store"


def copy(store: Path, folder: Path) -> LocalStore:
    return LocalStore(shutil.copytree(store, folder))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and "locks" not in str(p)
    }


def no_wait(_: float) -> None:
    """Nobody leads in these tests."""


def test_an_adopted_federation_keeps_its_history_byte_for_byte(grown: Path, tmp_path: Path) -> None:
    store = copy(grown, tmp_path / "store")
    before = files_of(tmp_path / "store")
    federation = adopt(store, KEYS, wait=no_wait)
    assert federation.settings.adopted == Adopted(round=2, release=1)
    after = files_of(tmp_path / "store")
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {"federation.json", "settings/copy.json", "channels/latest"}
    assert isinstance(federation.channel("latest"), SignedChannel)
    assert [federation.release(number).release for number in (0, 1)] == [0, 1]
    assert read_members(store).members == {}
    assert federation.settings.federation != federation.settings.root == KEYS.fingerprint


def test_an_open_round_gives_way_to_one_that_is_signed(grown: Path, tmp_path: Path) -> None:
    store = copy(grown, tmp_path / "store")
    old = contribute(Federation(store, open_federation(store).settings), "ben", make_changes(MODEL, 4))
    federation = adopt(store, KEYS, wait=no_wait)
    assert isinstance(lead(federation, 2)[0], Abandoned)
    assert "send it again" in federation.journal(2).state().rejected[old].reason
    lead(federation, 3, now_s=time.time())
    state = federation.journal(3).state()
    assert [r.contributor for r in state.rejected.values()] == ["ada"]  # carried, and signed by nobody
    assert (dict(state.admitted), state.is_open) == ({}, True)


def test_a_round_that_was_closed_is_published_and_signed(grown: Path, tmp_path: Path) -> None:
    store = copy(grown, tmp_path / "store")
    plain = open_federation(store)
    contribute(plain, "ben", make_changes(MODEL, 4))
    journal = plain.journal(2)
    state = journal.state()
    journal.append(Closed(contributions=tuple(sorted(state.admitted)), reason="enough"))
    federation = adopt(store, KEYS, wait=no_wait)
    assert isinstance(lead(federation, 2)[-1], Published)
    assert federation.channel("latest").release == 2
    assert store.head("releases/00002.sig") is not None


def test_an_adoption_killed_at_any_operation_is_finished_by_the_next(grown: Path, tmp_path: Path) -> None:
    with DyingStore(str(copy(grown, tmp_path / "calm").url)) as calm:
        adopt(calm, KEYS, wait=no_wait)
    assert calm.num_done > 10
    for number in range(1, calm.num_done + 1):
        store = copy(grown, tmp_path / str(number))
        with DyingStore(store.url, dies_at=number) as dying, pytest.raises(KilledError):
            adopt(dying, KEYS, wait=no_wait)
        federation = adopt(store, KEYS, wait=no_wait)
        assert federation.settings.adopted == Adopted(round=2, release=1), number
        assert isinstance(federation.channel("latest"), SignedChannel), number
        assert federation.settings.root == KEYS.fingerprint
        shutil.rmtree(tmp_path / str(number))


def test_an_aggregator_finishes_an_adoption_that_was_killed(grown: Path, tmp_path: Path) -> None:
    """Killed after the settings, which are the switch: nobody believes the channel until who has the key signs it."""
    store = copy(grown, tmp_path / "store")
    plain = store.get("channels/latest")
    adopt(store, KEYS, wait=no_wait)
    store.compare_and_swap("channels/latest", plain, etag=store.get_with_etag("channels/latest")[1])
    with pytest.raises(SignatureError, match="is signed by nobody"):
        open_federation(store).channel("latest")
    assert open_federation(store, signer=KEYS.signer).mended_latest().release == 1
    assert isinstance(open_federation(store).channel("latest"), SignedChannel)


def test_what_an_earlier_try_with_lost_keys_has_left_gives_way(grown: Path, tmp_path: Path) -> None:
    store = copy(grown, tmp_path / "store")
    with DyingStore(store.url, dies_at=9) as dying, pytest.raises(KilledError):
        adopt(dying, make_keys(), wait=no_wait)
    assert adopt(store, KEYS, wait=no_wait).settings.root == KEYS.fingerprint


def test_other_keys_take_over_no_federation_that_has_a_root(tmp_path: Path) -> None:
    made = RootedFederation(tmp_path)
    with pytest.raises(FederationError, match="holds a root of other keys"):
        adopt(made.store, make_keys(), wait=no_wait)
    assert made.opened().settings.root == made.keys.fingerprint


def test_who_serves_it_at_that_moment_notices(grown: Path, tmp_path: Path) -> None:
    store = copy(grown, tmp_path / "store")
    federation, stop = open_federation(store), threading.Event()
    leader = Lease(store, ttl_s=5.0)
    assert leader.try_acquire() is None
    waited: list[float] = []
    with StoreGateway(federation) as gateway:
        gateway.status()
        adopt(store, KEYS, wait=waited.append)
        assert waited == [5.0]
        with pytest.raises(NotAllowedError, match="start it again"):
            gateway.release()
    with pytest.raises(NotAllowedError, match="start it again"):
        list(serve_rounds(federation, ThreadExecutor(1), AggregatorSettings(poll_s=0.01), stop=stop))
    leader.release()
    with StoreGateway(open_federation(store)) as again:
        assert again.release().release == 1
