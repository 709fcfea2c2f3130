"""Rot in contributions and bases, at every moment of a round: never fused, named, and the others' round goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rot import HOW, large_model, rot
from tiny_rounds import Model, lead, make_changes, make_contribution, make_federation, naive_mean, read_release, receive

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.damage import REPAIR_S, Damaged
from coldfuse.core.round import Abandoned
from coldfuse.errors import DamagedObjectError
from coldfuse.gateway import Decision, StoreGateway
from coldfuse.registry.federation import Federation

MODEL = large_model()
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(("ada", "ben", "cy"))}
CHANGES["cy"]["layer.bias"] = np.ones(8, np.float32)  # its header is its own


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads are repeated at once."""
    monkeypatch.setattr("coldfuse.tensors.rereading._PAUSE_S", 0.0)


def fused(*names: str) -> Model:
    return naive_mean(MODEL, [CHANGES[name] for name in names])


class Party:
    """A federation whose first round is open, and what its contributors have sent."""

    def __init__(self, folder: Path, *, quorum: int) -> None:
        self.federation: Federation = make_federation(folder, MODEL, quorum=quorum)
        lead(self.federation)
        self.manifests: dict[str, ContributionManifest] = {}
        self.sent: dict[str, str] = {}
        self.bytes: dict[str, bytes] = {}

    def send(self, name: str) -> str:
        manifest = make_contribution(self.federation, name, CHANGES[name])
        self.manifests[name] = manifest
        self.sent[name] = receive(self.federation, manifest)
        for key in (self.sent[name], *(part.digest for part in manifest.delta.parts)):
            self.bytes[key] = self.federation.store.get(f"objects/{key}")
        return self.sent[name]

    def key(self, name: str, what: str) -> str:
        """The object of a contribution that holds its header, its numbers, or what is said of it."""
        parts = self.manifests[name].delta.parts
        return {"header": parts[0].digest, "numbers": parts[-1].digest, "manifest": self.sent[name]}[what]

    def send_again(self, name: str) -> None:
        """Do what a node does that is asked to send its contribution again: only what is missing is taken."""
        gateway = StoreGateway(self.federation)
        assert gateway.verdict(1, self.sent[name]).send_again
        blob = self.manifests[name].delta
        data = b"".join(self.bytes[part.digest] for part in blob.parts)

        def read(buffer: memoryview, start: int) -> None:
            buffer[:] = data[start : start + len(buffer)]

        gateway.upload(blob, read)
        gateway.commit(self.manifests[name])
        assert not gateway.verdict(1, self.sent[name]).send_again

    def state(self, number: int = 1):
        return self.federation.journal(number).state()


@pytest.mark.parametrize("what", ["header", "numbers", "manifest"])
@pytest.mark.parametrize("how", HOW)
def test_a_contribution_that_rots_before_it_is_screened_is_sent_again_and_counts(
    tmp_path: Path, what: str, how: str
) -> None:
    party = Party(tmp_path, quorum=3)
    for name in CHANGES:
        party.send(name)
    rot(party.federation, f"objects/{party.key('cy', what)}", how)
    lead(party.federation)
    assert {a.contributor for a in party.state().admitted.values()} == {"ada", "ben"}
    assert party.state().rejected == {}
    verdict = StoreGateway(party.federation).verdict(1, party.sent["cy"])
    assert (verdict.decision, verdict.send_again) == (Decision.PENDING, True)
    assert "damaged in the store" in verdict.reason
    assert party.key("cy", what)[:12] in verdict.reason or what == "manifest"
    party.send_again("cy")
    lead(party.federation)
    assert read_release(party.federation) == fused("ada", "ben", "cy")


def test_a_round_goes_on_without_what_rotted_and_its_contributor_is_told_that_it_is_late(tmp_path: Path) -> None:
    party = Party(tmp_path, quorum=2)
    for name in CHANGES:
        party.send(name)
    rot(party.federation, f"objects/{party.key('cy', 'numbers')}", "flipped")
    lead(party.federation)
    assert read_release(party.federation) == fused("ada", "ben")
    rejection = party.state().rejected[party.sent["cy"]]
    assert rejection.is_late
    assert f"part {party.key('cy', 'numbers')[:12]} was damaged in the store" in rejection.reason


@pytest.mark.parametrize("what", ["header", "numbers", "manifest"])
@pytest.mark.parametrize("how", HOW)
def test_an_admitted_contribution_that_rots_is_sent_again_before_it_is_fused(
    tmp_path: Path, what: str, how: str
) -> None:
    party = Party(tmp_path, quorum=3)
    party.send("ada")
    party.send("cy")
    lead(party.federation)
    assert len(party.state().admitted) == 2
    rot(party.federation, f"objects/{party.key('cy', what)}", how)
    party.send("ben")
    events = lead(party.federation)  # closes the round, and meets the damage when it fuses
    assert [e.event for e in events][-2:] == ["closed", "damaged"]
    assert party.federation.latest().release == 0
    assert lead(party.federation, now_s=REPAIR_S - 1) == []
    party.send_again("cy")
    lead(party.federation, now_s=REPAIR_S - 1)
    assert read_release(party.federation) == fused("ada", "ben", "cy")


@pytest.mark.parametrize("at", [0.0, 0.3, 0.999_999])
def test_one_bit_anywhere_in_an_admitted_delta_is_never_fused(tmp_path: Path, at: float) -> None:
    party = Party(tmp_path, quorum=2)
    party.send("cy")
    lead(party.federation)
    rot(party.federation, f"objects/{party.key('cy', 'numbers')}", "flipped", at=at)
    party.send("ada")
    assert isinstance(lead(party.federation)[-1], Damaged)
    assert party.federation.latest().release == 0


def test_without_the_damaged_one_the_round_goes_on_after_a_while_where_the_quorum_holds(tmp_path: Path) -> None:
    party = Party(tmp_path, quorum=3)
    party.send("cy")
    party.send("ada")
    lead(party.federation)
    rot(party.federation, f"objects/{party.key('cy', 'numbers')}", "flipped")
    party.send("ben")
    lead(party.federation)
    events = lead(party.federation, now_s=REPAIR_S + 1)
    assert isinstance(events[1], Abandoned)  # 2 of 3: too few
    assert "2 contributions are left, 3 make the quorum" in events[1].reason
    rejection = party.state().rejected[party.sent["cy"]]
    assert rejection.is_late
    assert "no fault of yours" in rejection.reason
    lead(party.federation, 2)
    assert {a.contributor for a in party.state(2).opened.carried} == {"ada", "ben"}


def test_where_the_quorum_holds_the_others_are_fused_without_the_damaged_one(tmp_path: Path) -> None:
    party = Party(tmp_path, quorum=2)
    party.send("cy")
    lead(party.federation)
    for name in ("ada", "ben"):
        party.send(name)
    rot(party.federation, f"objects/{party.key('cy', 'numbers')}", "cut")
    lead(party.federation)
    events = lead(party.federation, now_s=REPAIR_S + 1)
    assert [event.event for event in events] == ["rejected", "fused", "published"]
    assert read_release(party.federation) == fused("ada", "ben")
    assert party.state().rejected[party.sent["cy"]].is_late


def test_a_flaky_line_is_nobodys_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    party = Party(tmp_path, quorum=3)
    seen: set[tuple[str, int]] = set()
    read_into = type(party.federation.store).read_into

    def flaky(self: object, key: str, buffer: memoryview, *, start: int = 0) -> None:
        read_into(self, key, buffer, start=start)
        if (key, start) not in seen:
            seen.add((key, start))
            buffer[len(buffer) // 2] ^= 1

    monkeypatch.setattr(type(party.federation.store), "read_into", flaky)
    for name in CHANGES:
        party.send(name)
    lead(party.federation)
    assert len(seen) >= 10
    assert [event for event in ("damaged", "rejected") if getattr(party.state(), event)] == []
    assert read_release(party.federation) == fused("ada", "ben", "cy")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("at", [0.1, 0.9])
def test_a_damaged_base_is_never_fused_and_is_named(tmp_path: Path, how: str, at: float) -> None:
    party = Party(tmp_path, quorum=3)
    part = party.federation.latest().files["model.safetensors"].parts[-1]
    for name in CHANGES:
        party.send(name)
    rot(party.federation, f"objects/{part.digest}", how, at=at)
    with pytest.raises(DamagedObjectError, match=f"objects/{part.digest}.*doctor STORE --repair"):
        lead(party.federation)
    assert party.federation.latest().release == 0
    assert party.state().rejected == {}
    assert (Path(party.federation.store.url) / "objects" / part.digest).exists() == (how != "missing")  # not moved


def test_checks_that_rot_are_made_again_from_what_they_verify(tmp_path: Path) -> None:
    party = Party(tmp_path, quorum=3)
    for name in CHANGES:
        party.send(name)
    for how, key in zip(HOW, party.federation.store.list("checks/").keys, strict=False):
        rot(party.federation, key, how)
    lead(party.federation)
    assert read_release(party.federation) == fused("ada", "ben", "cy")


def test_a_contribution_and_a_base_without_checks_are_verified_whole(tmp_path: Path) -> None:
    """As stores of older versions have them."""
    party = Party(tmp_path, quorum=2)
    party.send("cy")
    for key in party.federation.store.list("checks/").keys:
        rot(party.federation, key, "missing")
    rot(party.federation, f"objects/{party.key('cy', 'numbers')}", "flipped", at=0.9)
    party.send("ada")
    lead(party.federation)
    assert set(party.state().damaged) == {party.sent["cy"]}
    party.send_again("cy")
    lead(party.federation)
    assert read_release(party.federation) == fused("ada", "cy")


def test_every_number_of_a_round_is_verified_in_the_order_that_it_is_read(tmp_path: Path) -> None:
    """The same bytes as without damage, whatever pieces are read: a large tensor begins amid a piece."""
    party = Party(tmp_path, quorum=2)
    party.send("ada")
    party.send("ben")
    lead(party.federation)
    release = party.federation.latest()
    blob, root = release.files["model.safetensors"], release.checks["model.safetensors"]
    whole = party.federation.objects.open(blob).read(0, blob.size_bytes)
    reader = party.federation.objects.open(blob, root)
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, length = int(rng.integers(blob.size_bytes)), int(rng.integers(300_000))
        length = min(length, blob.size_bytes - start)
        assert reader.read(start, length) == whole[start : start + length]
