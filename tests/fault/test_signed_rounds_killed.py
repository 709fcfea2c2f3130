"""An aggregator with a key that dies before any of its writes: the next one goes on, and all is signed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from dying_store import DyingStore, KilledError
from faulty_store import installed
from rooted import RootedFederation
from tiny_rounds import lead, make_changes, make_model

from coldfuse.core.serialization import sha256
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.releases import read_statement_of
from coldfuse.storage import LocalStore, ObjectStore
from coldfuse.trust.channel import SignedChannel

MODEL = make_model()
WRITES = {"put_if_absent", "compare_and_swap", "delete"}


class Watched(DyingStore):
    """Knows which of its operations have written."""

    def __init__(self, url: str, *, dies_at: int = 0) -> None:
        super().__init__(url, dies_at=dies_at)
        self.writes: list[int] = []

    def _begin(self, operation: str, key: str) -> None:
        with self._lock:
            if operation in WRITES:
                self.writes.append(self.num_done + 1)
        return super()._begin(operation, key)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RootedFederation:
    """A round with two good contributions and one that nobody has signed."""
    made = RootedFederation(tmp_path_factory.mktemp("made"), rules={"quorum": 2, "deadline_s": 60.0})
    members = [made.enroll(name) for name in ("ada", "ben")]
    lead(made.opened(), 1, now_s=time.time())
    made.send("eve", make_changes(MODEL, 9), None)
    for seed, member in enumerate(members):
        made.send(member.name, make_changes(MODEL, seed), member)
    return made


def play(made: RootedFederation, store: ObjectStore) -> Federation:
    federation = open_federation(store, signer=made.keys.signer)
    lead(federation, 1)
    lead(federation, 2)
    return federation


def test_an_aggregator_killed_before_any_write_leaves_one_chain_and_one_release(
    made: RootedFederation, tmp_path: Path
) -> None:
    with installed(Watched(shutil.copytree(made.path / "store", tmp_path / "calm"))) as calm:  # type: ignore[arg-type]
        expected = play(made, calm).latest()
    assert len(calm.writes) > 12
    for number in calm.writes:
        folder = shutil.copytree(made.path / "store", tmp_path / str(number))
        with installed(Watched(str(folder), dies_at=number)) as dying, pytest.raises(KilledError):
            play(made, dying)
        federation = play(made, LocalStore(folder))
        reader = open_federation(LocalStore(folder))
        assert reader.latest().model_digest == expected.model_digest, number
        assert isinstance(reader.channel("latest"), SignedChannel), number
        state = reader.journal(1).state()  # verifies the chain
        assert (len(state.admitted), len(state.rejected), state.waiting) == (2, 1, []), number
        assert reader.journal(2).state().is_open, number
        statement = read_statement_of(
            reader.store, reader.latest(), digest=sha256(reader.release_bytes(1)), keys=[made.keys.aggregator.public]
        )
        assert statement is not None, number
        assert federation.settings.root == made.keys.fingerprint
        shutil.rmtree(folder)
