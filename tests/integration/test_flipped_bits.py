"""A bit that flips anywhere in what is signed changes nothing that is believed: it is made up for, or named."""

from __future__ import annotations

import time

import pytest
from rooted import RootedFederation
from tiny_rounds import lead, make_changes, make_model

from coldfuse.errors import ColdfuseError
from coldfuse.registry.federation import open_federation
from coldfuse.storage import MemoryStore
from coldfuse.storage.base import list_keys

KEYS = (
    "federation.json", "channels/latest", "root/1.json", "members/2.json", "rounds/00001/head",
    "rounds/00001/journal/00000001-admitted", "rounds/00001/journal/00000004-published",
)  # fmt: skip
NUM_FLIPS = 60


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What lies in a store with release 1."""
    made = RootedFederation(tmp_path_factory.mktemp("made"))
    ada = made.enroll("ada")
    lead(made.opened(), 1, now_s=time.time())
    made.send("ada", make_changes(make_model(), 0), ada)
    lead(made.opened(), 1)
    return {key: made.store.get(key) for key in list_keys(made.store, "")}


def believed(stored: dict[str, bytes]) -> tuple[object, ...]:
    """Read everything that is signed, as who has just opened the federation."""
    store = MemoryStore()
    for key, data in stored.items():
        store.put_if_absent(key, data)
    federation = open_federation(store)
    state = federation.journal(1).state()
    members = federation.trust.known().members if federation.trust else None
    return federation.settings, federation.channel("latest").release, members, state.published, dict(state.admitted)


@pytest.mark.parametrize("key", KEYS)
def test_a_flipped_bit_is_made_up_for_or_named(
    stored: dict[str, bytes], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldfuse.registry.reading.pause", lambda number: None)
    right, data, num_named = believed(stored), stored[key], 0
    step = max(len(data) * 8 // NUM_FLIPS, 1)
    for bit in range(3, len(data) * 8, step):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = believed(stored | {key: bytes(flipped)})
        except ColdfuseError:
            num_named += 1
            continue
        if key.endswith("-admitted"):  # lost, and taken from what was fused, but for what was measured
            assert found[:4] == right[:4], bit
        else:
            assert found == right, bit
    if key.startswith(("root/", "members/")):
        assert num_named > NUM_FLIPS * 0.9  # of these there is no other copy
    else:
        assert num_named == 0
