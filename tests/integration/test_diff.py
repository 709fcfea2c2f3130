"""Comparing releases: who moved them, what is read for it, and what is said where that cannot be known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from encoded_deltas import factors, make_mask, schema_of, send, sparse, whole
from operators import Person
from rooted_rounds import make_signed_federation
from tiny_rounds import (
    contribute,
    floats,
    lead,
    make_changes,
    make_contribution,
    make_federation,
    make_model,
    read_release,
    receive,
    write_model,
)

from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.errors import DigestMismatchError, UserInputError
from coldfuse.gateway import StoreGateway
from coldfuse.movement.compare import Movement, compare_releases
from coldfuse.movement.history import History
from coldfuse.movement.parts import Parts, PartsFile
from coldfuse.registry.federation import Federation
from coldfuse.tensors.changes import SparseChange
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway

MODEL = make_model()
SEEDS = {"alice": 1, "bob": 20, "carol": 300}


def add_round(federation: Federation, number: int, changes: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    for name, change in changes.items():
        contribute(federation, name, change)
    lead(federation, number)
    assert federation.latest().release == number


def history_of(federation: Federation, *, with_store: bool = True, held_bytes: int = 1 << 20) -> History:
    objects = federation.objects if with_store else None
    return History(StoreGateway(federation), objects, held_bytes=held_bytes)


def by_name(movement: Movement, tensor: str | None = None) -> dict[str, float | None]:
    moved = movement.total if tensor is None else movement.tensors[tensor]
    return {mover.contributor: moved.share(mover.contribution) for mover in movement.movers}


@pytest.fixture(params=["mean", "mean then interpolate"])
def two_rounds(tmp_path: Path, request: pytest.FixtureRequest) -> Federation:
    """A federation that was moved twice, by three contributors, by their mean or halfway to it."""
    federation = make_federation(tmp_path, MODEL, quorum=3, method=request.param)
    for number in (1, 2):
        add_round(federation, number, {name: make_changes(MODEL, seed * number) for name, seed in SEEDS.items()})
    return federation


def flat(changes: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([changes[name].reshape(-1).astype(np.float64) for name in sorted(changes)])


def test_shares_are_those_of_the_mean_and_add_up_to_the_change(two_rounds: Federation) -> None:
    movement = compare_releases(history_of(two_rounds), 1)
    deltas = {name: flat(make_changes(MODEL, seed)) / 3 for name, seed in SEEDS.items()}
    change = sum(deltas.values())
    expected = {name: float(delta @ change) / float(change @ change) for name, delta in deltas.items()}
    assert by_name(movement) == pytest.approx(expected, rel=1e-4)
    assert movement.is_exact
    assert abs(movement.rest(movement.total) or 1.0) < 1e-4
    for moved in movement.layers.values():
        assert abs(movement.rest(moved) or 0.0) < 1e-4


def test_over_several_rounds_shares_still_add_up_and_each_step_is_held_against_the_one_before(
    two_rounds: Federation,
) -> None:
    movement = compare_releases(history_of(two_rounds), 2, before=0)
    assert [mover.release for mover in movement.movers] == [1, 1, 1, 2, 2, 2]
    assert abs(movement.rest(movement.total) or 1.0) < 1e-4
    one, two = (sum(flat(make_changes(MODEL, seed * number)) for seed in SEEDS.values()) for number in (1, 2))
    expected = float(one @ two) / float(np.linalg.norm(one) * np.linalg.norm(two))
    assert [step.moved.cosine for step in movement.steps] == [None, pytest.approx(expected, abs=1e-3)]
    assert movement.steps[1].moved.cosine == compare_releases(history_of(two_rounds), 2).total.cosine


@pytest.mark.parametrize("method", ["ties(density=0.5)", "mean then momentum", "median"])
def test_of_what_is_not_linear_it_is_said_how_far_each_delta_goes_along_the_change(tmp_path: Path, method: str) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=3, method=method)
    add_round(federation, 1, {name: make_changes(MODEL, seed) for name, seed in SEEDS.items()})
    movement = compare_releases(history_of(federation), 1)
    assert not movement.is_exact
    assert movement.rest(movement.total) is None
    delta = make_changes(MODEL, SEEDS["alice"])["layer.weight"].astype(np.float64)
    moved = movement.tensors["layer.weight"]
    released = _tensor(federation, 1) - _tensor(federation, 0)
    expected = float((delta * released).sum()) / float((released**2).sum())
    assert by_name(movement, "layer.weight")["alice"] == pytest.approx(expected, rel=1e-5)
    assert moved.distance == pytest.approx(float(np.linalg.norm(released)), rel=1e-9)


def _tensor(federation: Federation, number: int) -> np.ndarray:
    return read_release(federation, number)["layer.weight"].floats.astype(np.float64)


def test_weights_count_as_the_method_counts_them(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="weighted-mean", quorum=2)
    for name, num_examples in (("alice", 100), ("bob", 300)):
        contribute(federation, name, make_changes(MODEL, SEEDS[name]), num_examples=num_examples)
    lead(federation, 1)
    movement = compare_releases(history_of(federation), 1)
    deltas = {"alice": flat(make_changes(MODEL, 1)) / 4, "bob": flat(make_changes(MODEL, 20)) * 3 / 4}
    change = sum(deltas.values())
    expected = {name: float(delta @ change) / float(change @ change) for name, delta in deltas.items()}
    assert by_name(movement) == pytest.approx(expected, rel=1e-4)


def test_what_is_stored_in_few_numbers_counts_as_what_it_stands_for(tmp_path: Path) -> None:
    federation, scratch = make_federation(tmp_path, MODEL, quorum=3), tmp_path / "scratch"
    scratch.mkdir()
    product, few = factors(8, 8, 2), sparse(5, 400)
    mask = make_mask(scratch, schema_of(federation), {"layer.weight": np.array([3, 9, 40])})
    masked = np.array([0.1, -0.2, 0.3], np.float32)
    send(federation, "alice", {"layer.weight": product}, scratch)
    send(federation, "bob", {"embeddings.weight": few}, scratch)
    send(federation, "carol", {"layer.weight": SparseChange(np.array([3, 9, 40]), masked)}, scratch, mask=mask)
    lead(federation, 1)
    movement = compare_releases(history_of(federation), 1)
    at_mask = np.zeros(64)
    at_mask[[3, 9, 40]] = masked
    expected = {"alice": whole(product).reshape(-1) / 3, "carol": at_mask / 3}
    change = sum(expected.values())
    shares = by_name(movement, "layer.weight")
    for name, delta in expected.items():
        assert shares[name] == pytest.approx(float(delta @ change) / float(change @ change), rel=1e-4)
    assert shares["bob"] is None
    assert by_name(movement, "embeddings.weight") == {"alice": None, "bob": pytest.approx(1.0), "carol": None}
    assert abs(movement.rest(movement.total) or 1.0) < 1e-4


def test_what_came_late_counts_by_its_age(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=2, late="rebase", staleness="polynomial(a=0.5)")
    lead(federation, 1)
    for number in (1, 2, 3):
        add_round(federation, number, {name: make_changes(MODEL, number * SEEDS[name]) for name in ("alice", "bob")})
    lead(federation, 4)
    old = {"base_release": 0, "base_digest": federation.release(0).model_digest}
    receive(federation, make_contribution(federation, "carol", make_changes(MODEL, 7), **old))
    contribute(federation, "alice", make_changes(MODEL, 8))
    lead(federation, 4)
    movement = compare_releases(history_of(federation), 4)
    deltas = {"carol": 0.5 * flat(make_changes(MODEL, 7)), "alice": flat(make_changes(MODEL, 8))}
    change = sum(deltas.values())
    expected = {name: float(delta @ change) / float(change @ change) for name, delta in deltas.items()}
    assert by_name(movement) == pytest.approx(expected, rel=1e-3)
    assert abs(movement.rest(movement.total) or 1.0) < 1e-3


def test_a_delta_that_can_no_longer_be_read_is_named_and_the_others_keep_their_shares(two_rounds: Federation) -> None:
    whole = by_name(compare_releases(history_of(two_rounds), 2))
    gone = two_rounds.latest().contributions[0]
    two_rounds.store.delete(f"objects/{gone.contribution}")
    movement = compare_releases(history_of(two_rounds), 2)
    lost = {mover.contributor: mover.unreadable for mover in movement.movers if mover.unreadable}
    assert lost.keys() == {gone.contributor}
    assert by_name(movement) == whole | {gone.contributor: None}
    assert movement.rest(movement.total) == pytest.approx(whole[gone.contributor], abs=1e-4)


def test_a_part_that_is_damaged_loses_only_what_it_is_of(two_rounds: Federation) -> None:
    whole = by_name(compare_releases(history_of(two_rounds), 2))
    fused = two_rounds.latest().contributions[1]
    manifest = json.loads(two_rounds.objects.get(fused.contribution))
    key = f"objects/{manifest['delta']['parts'][-1]['digest']}"
    data = bytearray(two_rounds.store.get(key))
    data[-1] ^= 1
    two_rounds.store.delete(key)
    two_rounds.store.put_if_absent(key, bytes(data))
    movement = compare_releases(history_of(two_rounds), 2)
    assert by_name(movement) == whole | {fused.contributor: None}


def test_a_consumer_sees_how_far_and_is_told_why_not_who(two_rounds: Federation) -> None:
    movement = compare_releases(history_of(two_rounds, with_store=False), 2)
    assert movement.total.distance == compare_releases(history_of(two_rounds), 2).total.distance
    assert movement.movers == ()
    assert "private" in (movement.why_not or "")


@pytest.mark.parametrize("is_auditable", [False, True], ids=["private", "auditable"])
def test_a_member_sees_over_the_wire_what_the_federation_hands_out(tmp_path: Path, is_auditable: bool) -> None:
    made = make_signed_federation(tmp_path, rounds=2, method="mean", is_auditable=is_auditable)
    whole = compare_releases(history_of(made.federation), 2)
    with serve_gateway(made.federation) as served:
        client = GatewayClient(served.address, identity=made.identities["ada"])
        with TrustedGateway(client, anchor=made.keys.fingerprint) as gateway:
            movement = compare_releases(History(gateway), 2)
    assert movement.total.distance == whole.total.distance
    assert movement.total.cosine == whole.total.cosine
    assert whole.is_exact
    assert (movement.movers == whole.movers, movement.why_not is None) == (is_auditable, is_auditable)
    assert not is_auditable or by_name(movement) == by_name(whole)


def test_what_both_releases_share_is_not_read(tmp_path: Path, small_parts: int) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=2, screening=ScreeningRules.off())
    few = {"scale": np.array(0.5, np.float32)}
    add_round(federation, 1, {"alice": few, "bob": few})
    release: ReleaseManifest = federation.release(1)
    others = {part.digest for part in federation.release(0).files["model.safetensors"].parts}
    shared = [part for part in release.files["model.safetensors"].parts if part.digest in others]
    assert len(shared) > 10
    asked: set[str] = set()
    gateway = StoreGateway(federation)

    class Counted:
        release = staticmethod(gateway.release)
        read_signed = staticmethod(gateway.read_signed)

        @staticmethod
        def read_into(number: int, digest: str, buffer: memoryview, start: int = 0) -> None:
            asked.add(digest)
            gateway.read_into(number, digest, buffer, start)

    movement = compare_releases(History(Counted(), federation.objects), 1)
    assert movement.total.num_changed == 1
    assert movement.total.distance == pytest.approx(0.5)
    read_anyway = asked & {part.digest for part in shared}
    assert len(read_anyway) <= 2  # the header, and what lies in one part with what changed
    assert movement.skipped_bytes > sum(part.size_bytes for part in shared) - 3 * small_parts


def test_parts_are_held_up_to_a_budget_and_verified(tmp_path: Path, small_parts: int) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=2)
    add_round(federation, 1, {name: make_changes(MODEL, SEEDS[name]) for name in ("alice", "bob")})
    little = history_of(federation, held_bytes=2 * small_parts)
    assert compare_releases(little, 1).total == compare_releases(history_of(federation), 1).total
    assert sum(map(len, little.parts._held.values())) <= 2 * small_parts
    blob = federation.release(1).files["model.safetensors"]
    lying = Parts(lambda _, buffer: None)
    with pytest.raises(DigestMismatchError, match="try again"):
        PartsFile(blob, "x", lying).open().read_into(memoryview(bytearray(8)), 0)


@pytest.mark.parametrize(("after", "before"), [(0, None), (1, 1)])
def test_a_release_is_not_compared_with_nothing_or_itself(
    two_rounds: Federation, after: int, before: int | None
) -> None:
    with pytest.raises(UserInputError, match=r"give (two releases: --from N )?--to [NM]"):
        compare_releases(history_of(two_rounds), after, before=before)


def test_a_newer_release_is_compared_with_an_older_one_without_who(two_rounds: Federation) -> None:
    back = compare_releases(history_of(two_rounds), 0, before=2)
    assert back.total.distance == compare_releases(history_of(two_rounds), 2, before=0).total.distance
    assert back.why_not == "release 0 was not made from release 2"


def test_an_unmoved_layer_counts_in_the_cosine_of_all(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=2, screening=ScreeningRules.off())
    first = {"layer.weight": np.full((8, 8), 0.5, np.float32), "scale": np.array(1.0, np.float32)}
    add_round(federation, 1, {"alice": first, "bob": first})
    add_round(federation, 2, {name: {"scale": np.array(1.0, np.float32)} for name in ("alice", "bob")})
    movement = compare_releases(history_of(federation), 2)
    assert movement.tensors["scale"].cosine == pytest.approx(1.0)
    assert movement.total.cosine == pytest.approx(1.0 / np.sqrt(64 * 0.25 + 1.0))


def test_the_command_says_it_as_a_table_as_json_and_as_a_picture(two_rounds: Federation, tmp_path: Path) -> None:
    person, store = Person(tmp_path / "home"), tmp_path / "store"
    table = person.succeed("diff", store).stdout
    assert "release 1 → release 2" in table
    assert "alice" in table
    found = json.loads(person.succeed("diff", store, "--from", "0", "--to", "2", "--json").stdout)
    assert abs(sum(found["total"]["shares"]) - 1.0) < 1e-3
    person.succeed("diff", store, "--plot", tmp_path / "moved.svg")
    assert (tmp_path / "moved.svg").read_bytes().startswith(b"<?xml")
    assert "ends with .png" in person.fail("diff", store, "--plot", tmp_path / "moved.txt")
    assert "no release 7" in person.fail("diff", store, "--to", "7")
    assert "give the model to compare it with" in in_line(person.fail("diff", tmp_path / "base"))
    assert "leave them or B out" in in_line(person.fail("diff", tmp_path / "base", tmp_path / "base", "--to", "1"))


def in_line(output: str) -> str:
    """Return what stands in a box of lines as one line."""
    return " ".join(output.replace("│", " ").split())


def test_names_of_tensors_do_not_act_on_the_terminal(tmp_path: Path) -> None:
    evil = {"layer.\x1b[2Jweight": floats(np.ones(4))}
    write_model(tmp_path / "one", evil)
    write_model(tmp_path / "two", {name: floats(np.zeros(4)) for name in evil})
    shown = Person(tmp_path / "home").run("diff", tmp_path / "one", tmp_path / "two", "--tensors")
    assert "\x1b" not in shown.output
