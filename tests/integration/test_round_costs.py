"""What a whole round costs in store operations, at the gateway and at the aggregator."""

from __future__ import annotations

import time
from pathlib import Path

from faulty_store import FaultyStore, installed
from rooted import RootedFederation
from tiny_rounds import lead, make_changes, make_contribution, make_federation, make_model

from coldfuse.core.round import Published
from coldfuse.core.serialization import encode
from coldfuse.gateway.store import StoreGateway
from coldfuse.registry.federation import open_federation
from coldfuse.registry.trust import signed_reader
from coldfuse.storage import MemoryStore, PatientStore
from coldfuse.tensors.blobs import BlobReader
from coldfuse.trust.view import TrustView

MODEL = make_model()
MOST_OPERATIONS = 19
"""Of one contribution whose delta has two parts: seven at the gateway, the others to screen and to fuse it."""


MOST_OPERATIONS_OF_A_SIGNED_COMMIT = 7
"""Two more than without a root: the member's key, and that none has followed it."""

MOST_OPERATIONS_OF_A_SIGNED_CONTRIBUTION = 18
"""Four more than without a root: these two, the manifest, and a share of what the round signs."""


def count_operations(folder: Path, num_contributors: int) -> float:
    """Lead a round, and return how many operations each contribution has cost."""
    made = make_federation(folder, MODEL, quorum=num_contributors)
    store, elsewhere = FaultyStore(made.store), MemoryStore()
    with installed(store):
        federation = open_federation(store)
        lead(federation)
        manifests = [
            make_contribution(federation, f"c{number}", make_changes(MODEL, number))
            for number in range(num_contributors)
        ]
        parts = [part for manifest in manifests for part in manifest.delta.parts]
        for digest in {part.digest for part in parts}:
            elsewhere.put_if_absent(digest, store.get(f"objects/{digest}"))
            store.delete(f"objects/{digest}")
        store.calls.clear()
        with StoreGateway(federation) as gateway:
            for manifest in manifests:
                gateway.upload(manifest.delta, BlobReader(manifest.delta, _from(elsewhere)).read_into)
                gateway.commit(manifest)
        assert isinstance(lead(federation)[-1], Published)
    return store.num_calls / num_contributors


def _from(store: MemoryStore):
    return lambda digest, buffer, start: store.read_into(digest, buffer, start=start)


def test_what_a_contribution_costs_does_not_grow_with_their_number(tmp_path: Path) -> None:
    few, many = (count_operations(tmp_path / str(number), number) for number in (8, 40))
    assert many < few
    assert many <= MOST_OPERATIONS


def test_what_a_round_costs_does_not_grow_with_the_rounds_before(tmp_path: Path) -> None:
    made = make_federation(tmp_path, MODEL, quorum=1)
    store = FaultyStore(made.store)
    with installed(store):
        federation, costs = open_federation(store), []
        for number in range(1, 9):
            lead(federation, number)
            manifest = make_contribution(federation, "ada", make_changes(MODEL, number))
            store.calls.clear()
            with StoreGateway(federation) as gateway:
                gateway.commit(manifest)
            lead(federation, number)
            costs.append(store.num_calls)
    assert max(costs[3:]) <= max(costs[:3])


def test_what_a_root_costs_a_contribution(tmp_path: Path) -> None:
    """Its manifest, and who has signed it: at the gateway and again at the aggregator, which need not believe it."""
    made = RootedFederation(tmp_path, rules={"quorum": 8})
    members = [made.enroll(f"c{number}") for number in range(8)]
    store = FaultyStore(made.store)
    with installed(store):
        federation = open_federation(store, signer=made.keys.signer)
        lead(federation, now_s=time.time())
        manifests = [make_contribution(federation, m.name, make_changes(MODEL, n)) for n, m in enumerate(members)]
        store.calls.clear()
        with StoreGateway(federation) as gateway:
            for member, manifest in zip(members, manifests, strict=True):
                data = encode(manifest)
                gateway.commit_bytes(data, member.sign(data, "contribution"))
        num_commits = store.num_calls
        assert isinstance(lead(federation)[-1], Published)
    assert num_commits / 8 <= MOST_OPERATIONS_OF_A_SIGNED_COMMIT
    assert (store.num_calls - num_commits) / 8 <= MOST_OPERATIONS_OF_A_SIGNED_CONTRIBUTION


def test_what_has_not_come_yet_is_looked_for_once(tmp_path: Path) -> None:
    """A root and a list of members after the newest: every gateway looks for both each two seconds."""
    made = RootedFederation(tmp_path)
    store = FaultyStore(made.store)
    view = TrustView(signed_reader(PatientStore(store)), fingerprint=made.keys.fingerprint)
    view.refresh()
    store.calls.clear()
    view.refresh()
    assert store.num_calls == 2
