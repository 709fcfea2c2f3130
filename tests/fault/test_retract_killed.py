"""Who retracts is killed before any of its writes: what comes of it is the same, whoever goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dying_store import DyingStore, KilledError
from faulty_store import installed
from retracted_rounds import played, take_out, verified
from tiny_rounds import contribute, lead, make_changes, make_model

from coldfuse.doctor.examine import Examination
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.lease import KEY as LEASE_KEY
from coldfuse.registry.tombstones import FOLDER
from coldfuse.storage import LocalStore
from coldfuse.storage.base import list_keys

_READS = ("get", "head", "read_into", "get_with_etag", "list")


class DyingWriter(DyingStore):
    """A store whose process is killed before its n-th write; those of the lease, which go by time, do not count."""

    def _begin(self, operation: str, key: str) -> None:
        if self.is_dead or (operation not in _READS and key != LEASE_KEY):
            super()._begin(operation, key)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two releases, and a round that runs."""
    names = ("ada", "ben")
    federation = played(
        tmp_path_factory.mktemp("running"), [names, names], opens=True, quorum=2, method="mean then nesterov"
    )
    contribute(federation, "ada", make_changes(make_model(), 50))
    lead(federation, 3)
    return Path(federation.store.url)


def copy(store: Path, folder: Path) -> Federation:
    return open_federation(LocalStore(shutil.copytree(store, folder)))


def calm(running: Path, folder: Path) -> tuple[int, Federation]:
    federation = copy(running, folder)
    with installed(DyingWriter(federation.store.url)) as store:
        take_out(open_federation(store), "ben", erases=True)
    return store.num_done, federation


def test_killed_before_any_write_it_comes_to_the_same_whoever_goes_on(running: Path, tmp_path: Path) -> None:
    num_writes, whole = calm(running, tmp_path / "calm")
    assert num_writes > 20
    for number in range(1, num_writes + 1, 3):
        federation = copy(running, tmp_path / str(number))
        with installed(DyingWriter(federation.store.url, dies_at=number)) as store:
            with pytest.raises(KilledError):
                take_out(open_federation(store), "ben", erases=True)
            assert store.num_done >= number
        if number % 2:  # an aggregator goes on, before it is run again
            for _ in range(2):
                lead(federation, federation.current_round())
        take_out(federation, "ben", erases=True)
        assert federation.latest().model_digest == whole.latest().model_digest, number
        assert federation.latest().release == 3
        shutil.rmtree(federation.store.url)
    assert Examination(whole).run().is_sound
    assert verified(whole).recomputed[0].agrees
    assert list(list_keys(whole.store, FOLDER))
