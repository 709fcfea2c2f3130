"""Aggregator and gateway that die at the n-th of all their store operations, for every n of a short round.

The process is played: from the n-th operation on, every operation of its store ends in an error that nobody catches, in
all its threads. What comes after it starts anew on the same folder, as a process does that is started again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dying_store import DyingStore, KilledError
from faulty_store import installed
from tiny_rounds import contribute, lead, make_changes, make_contribution, make_federation, make_model

from coldfuse.core.contribution import ContributionManifest
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore

MODEL = make_model()


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an open round, two good contributions and a broken one."""
    folder = tmp_path_factory.mktemp("received")
    federation = make_federation(folder, MODEL)
    lead(federation)
    contribute(federation, "eve", {"scale": np.float32(np.nan).reshape(())})
    for seed, name in enumerate(("ada", "ben")):
        contribute(federation, name, make_changes(MODEL, seed))
    return folder / "store"


def copy(store: Path, folder: Path) -> Federation:
    return open_federation(LocalStore(shutil.copytree(store, folder)))


def play(federation: Federation) -> None:
    """End the round, and open the next."""
    lead(federation, 1)
    lead(federation, 2)


def count(received: Path, folder: Path) -> tuple[int, Federation]:
    federation = copy(received, folder)
    with installed(DyingStore(federation.store.url)) as store:
        play(open_federation(store))
    return store.num_done, federation


def test_an_aggregator_killed_at_any_operation_is_continued_with_the_same_bytes(received: Path, tmp_path: Path) -> None:
    num_operations, calm = count(received, tmp_path / "calm")
    assert num_operations > 40
    seen: set[str] = set()
    for number in range(1, num_operations + 1):
        federation = copy(received, tmp_path / str(number))
        with installed(DyingStore(federation.store.url, dies_at=number)) as store, pytest.raises(KilledError):
            play(open_federation(store))
        assert store.is_dead
        seen |= set(store.fired)
        play(open_federation(LocalStore(federation.store.url)))
        state = federation.journal(1).state()
        assert state.published is not None, number
        assert (len(state.admitted), len(state.rejected), state.waiting) == (2, 1, []), number
        assert federation.latest().model_digest == calm.latest().model_digest, number
        assert federation.latest().files == calm.latest().files, number
        assert federation.journal(2).state().is_open, number
        shutil.rmtree(tmp_path / str(number))
    assert {"get", "head", "list", "put_if_absent", "compare_and_swap"} <= seen


def test_a_gateway_killed_at_any_operation_loses_nothing_that_it_acknowledged(received: Path, tmp_path: Path) -> None:
    manifest = make_contribution(copy(received, tmp_path / "manifest"), "cy", make_changes(MODEL, 7))
    calm = copy(received, tmp_path / "calm")
    with DyingStore(calm.store.url) as store:
        send(open_federation(store), manifest, tmp_path / "manifest")
    lead(calm)
    assert store.num_done > 5
    for number in range(1, store.num_done + 1):
        federation = copy(received, tmp_path / str(number))
        with DyingStore(federation.store.url, dies_at=number) as dying, pytest.raises(KilledError):
            send(open_federation(dying), manifest, tmp_path / "manifest")
        assert dying.is_dead
        send(federation, manifest, tmp_path / "manifest")  # the contributor has no answer: it sends again
        lead(federation)
        received_from = [r.contributor for r in federation.journal(1).state().received.values()]
        assert sorted(received_from) == ["ada", "ben", "cy", "eve"], number
        assert federation.latest().model_digest == calm.latest().model_digest, number
        shutil.rmtree(tmp_path / str(number))


def send(federation: Federation, manifest: ContributionManifest, source: Path) -> None:
    """Upload and commit through a gateway that has just started."""
    read = open_federation(LocalStore(source)).objects.open(manifest.delta).read_into
    gateway = StoreGateway(federation)
    try:
        gateway.upload(manifest.delta, read)
        gateway.commit(manifest)
    finally:
        gateway.close()
