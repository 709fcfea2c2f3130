"""Rounds in which contributions are judged by each other: lengths, copies, claims, and an operator's quarantine."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import (
    contribute,
    lead,
    make_changes,
    make_contribution,
    make_federation,
    make_model,
    make_round,
    naive_mean,
    read_release,
    receive,
)

from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import advance
from coldfuse.core.contribution import Admission
from coldfuse.core.round import Opened, fold
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.fuse import Request, fuse, prepare
from coldfuse.engine.inputs import delta_input
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.sinks import StoreSink
from coldfuse.engine.state import open_release_state
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.answers import Decision
from coldfuse.gateway.rounds import find_verdict
from coldfuse.registry.federation import Federation
from coldfuse.registry.quarantine import write_quarantine
from coldfuse.tensors.files import BlobFile
from coldfuse.tensors.tensor_file import open_tensors

MODEL = make_model()
NAMES = ("ada", "ben", "cy", "dee", "eve", "fay")
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(NAMES)}
Changes = Mapping[str, np.ndarray]


def times(factor: float, changes: Changes) -> dict[str, np.ndarray]:
    return {name: np.float32(factor) * values for name, values in changes.items()}


def reasons(federation: Federation, number: int = 1) -> dict[str, str]:
    state = federation.journal(number).state()
    return {rejection.contributor: rejection.reason for rejection in state.rejected.values()}


def make(root: Path, **options: object) -> Federation:
    """Return a federation whose first round is open."""
    federation = make_federation(root, MODEL, **options)  # type: ignore[arg-type]
    lead(federation)
    return federation


def send(federation: Federation, changes: Mapping[str, Changes], **options: object) -> None:
    """Contribute under each name, one second after the other."""
    for at_s, (name, each) in enumerate(changes.items()):
        receive(federation, make_contribution(federation, name, each, **options), at_s=float(at_s))


def test_a_delta_that_is_a_thousand_times_too_long_is_rejected_among_five(tmp_path: Path) -> None:
    federation = make(tmp_path, quorum=5)
    send(federation, {**{name: CHANGES[name] for name in NAMES[:5]}, "mallory": times(1000, CHANGES["fay"])})
    lead(federation)
    assert list(reasons(federation)) == ["mallory"]
    assert "the median of 6 in this round is" in reasons(federation)["mallory"]
    assert read_release(federation) == naive_mean(MODEL, [CHANGES[name] for name in NAMES[:5]])


def test_a_kind_of_its_own_is_longer_than_others_only_within_bounds(tmp_path: Path) -> None:
    """What was trained, a contributor says: who says something new is still held against the others."""
    federation = make(tmp_path, quorum=6)
    send(federation, {name: CHANGES[name] for name in NAMES[:5]})
    send(federation, {"fay": times(10, CHANGES["fay"])}, trained="the upper half")
    send(federation, {"mallory": times(1000, make_changes(MODEL, 77))}, trained="a way of my own")
    lead(federation)
    assert list(reasons(federation)) == ["mallory"]
    assert len(federation.latest().contributions) == 6


def test_what_looks_too_long_has_no_verdict_until_the_round_ends(tmp_path: Path) -> None:
    """Others like it may still come, and then it is one of them."""
    federation = make(tmp_path, quorum=9)
    send(federation, {name: CHANGES[name] for name in NAMES[:5]})
    lead(federation)
    digest = contribute(federation, "gil", times(10, make_changes(MODEL, 20)))
    assert [event.event for event in lead(federation)] == ["held"]
    state = federation.journal(1).state()
    verdict = find_verdict(state, digest)
    assert verdict is not None
    assert (verdict.decision, "long beside the others" in verdict.reason) == (Decision.PENDING, True)
    assert (len(state.admitted), state.waiting, lead(federation)) == (5, [], [])
    send(federation, {f"hal{i}": times(10, make_changes(MODEL, 30 + i)) for i in range(4)})
    assert [event.event for event in lead(federation)] == ["admitted", "closed", "fused", "published"]
    assert (reasons(federation), len(federation.latest().contributions)) == ({}, 10)


def test_an_entry_that_only_says_how_old_a_round_is_settles_nothing(tmp_path: Path) -> None:
    federation = make(tmp_path, quorum=10)
    send(federation, {name: CHANGES[name] for name in NAMES[:5]} | {"gil": times(10, make_changes(MODEL, 20))})
    lead(federation)
    for now_s in (10.0, 20.0, 30.0):
        assert [event.event for event in advance(make_round(federation, now_s=now_s))] == ["admitted"]
        assert (len(federation.journal(1).state().held), reasons(federation)) == (1, {})
    send(federation, {f"hal{i}": times(10, make_changes(MODEL, 30 + i)) for i in range(4)})
    lead(federation, now_s=40.0)
    assert len(federation.latest().contributions) == 10


def test_what_is_held_is_not_read_again(tmp_path: Path) -> None:
    federation = make(tmp_path, quorum=9)
    send(federation, {name: CHANGES[name] for name in NAMES[:5]})
    lead(federation)
    manifest = make_contribution(federation, "mallory", times(1000, CHANGES["fay"]))
    receive(federation, manifest)
    lead(federation)
    for part in manifest.delta.parts:
        federation.store.delete(f"objects/{part.digest}")
    send(federation, {"gil": make_changes(MODEL, 20)})
    assert [event.event for event in lead(federation)] == ["admitted"]
    assert lead(federation, now_s=60.0)[0].event == "rejected"
    assert "and at most" in reasons(federation)["mallory"]


@pytest.mark.parametrize("seed", range(4))
def test_the_model_does_not_depend_on_who_came_first(tmp_path: Path, seed: int) -> None:
    """An outlier that came early is shortened, one that came late is rejected: each set has one model."""
    models: dict[frozenset[str], set[str]] = {}
    sent = {**{name: CHANGES[name] for name in NAMES[:5]}, "mallory": times(50, CHANGES["fay"])}
    for number, order in enumerate((list(sent), random.Random(seed).sample(list(sent), len(sent)))):
        federation = make(tmp_path / str(number), quorum=5)
        send(federation, {name: sent[name] for name in order})
        for _ in order:  # one at a time
            lead(federation)
        latest = federation.latest()
        models.setdefault(frozenset(c.contributor for c in latest.contributions), set()).add(latest.model_digest)
    assert all(len(digests) == 1 for digests in models.values())


def test_an_admitted_outlier_is_shortened_and_the_release_says_so(tmp_path: Path) -> None:
    federation = make(tmp_path, quorum=5)
    send(federation, {"mallory": times(1000, CHANGES["fay"])})
    lead(federation)
    send(federation, {name: CHANGES[name] for name in NAMES[:4]})
    lead(federation)
    fused = {each.contributor: each for each in federation.latest().contributions}
    limit = sorted(each.norm for each in fused.values())[2] * 3
    assert fused["mallory"].scale * fused["mallory"].norm == pytest.approx(limit)
    assert {name: each.scale for name, each in fused.items() if name != "mallory"} == dict.fromkeys(NAMES[:4], 1.0)
    closed = federation.journal(1).state().closed
    assert closed is not None
    assert "; mallory's delta is shortened to 0.00" in closed.reason
    shortened = {n: fused["mallory"].scale * v.astype(np.float64) for n, v in times(1000, CHANGES["fay"]).items()}
    expected = naive_mean(MODEL, [shortened, *(CHANGES[name] for name in NAMES[:4])])
    for name, tensor in read_release(federation).items():
        if tensor.spec.is_fused:
            assert np.allclose(tensor.floats, expected[name].floats, rtol=1e-6, atol=1e-7)


def fuse_deltas(federation: Federation, changes: list[Changes], shares: list[float], method: str) -> str:
    """Fuse deltas of which some are shortened, and return the model's digest; they keep their places and masks."""
    base, recipe, url = open_base(federation, federation.latest()), read_recipe(method), federation.store.url
    inputs = []
    for number, (each, share) in enumerate(zip(changes, shares, strict=True)):
        blob = make_contribution(federation, "ada", each).delta
        file = open_tensors(BlobFile(url, blob, "delta"))
        item = delta_input(base.checkpoint, file, 1.0 + number, tied={}, path="delta", digest=f"{number:064x}")
        inputs.append(replace(item, share=share))
    state = open_release_state(base.checkpoint, recipe, {}, 0, made_by="base")
    prepared = prepare(Request(base=base.checkpoint, inputs=inputs, recipe=recipe, state=state, tied={}))
    return fuse(prepared, StoreSink(federation.objects, url, there=set()), ThreadExecutor(1)).digest


@pytest.mark.parametrize(
    "method", ["mean", "median", "ties", "clip then multi-krum", "weighted-mean then fedadam", "dare then iso-c", "ram"]
)
def test_a_shortened_delta_is_as_if_it_had_come_so(tmp_path: Path, method: str) -> None:
    """Whatever the method, bit by bit: a quarter of a delta is exact in floats."""
    federation = make(tmp_path)
    deltas = [CHANGES[name] for name in NAMES[:3]]
    whole = fuse_deltas(federation, deltas, [1.0, 1.0, 1.0], method)
    short = fuse_deltas(federation, [deltas[0], times(4, deltas[1]), deltas[2]], [1.0, 0.25, 1.0], method)
    assert short == whole != fuse_deltas(federation, deltas, [1.0, 0.25, 1.0], method)


def test_a_few_are_held_against_past_rounds(tmp_path: Path) -> None:
    federation = make(tmp_path)
    for number in (1, 2, 3):
        lead(federation, number)
        send(federation, {name: make_changes(MODEL, 10 * number + i) for i, name in enumerate(NAMES[:2])})
        lead(federation, number)
    assert len(federation.latest().norms["full, dense"]) == 3
    lead(federation, 4)
    send(federation, {"ada": CHANGES["ada"], "ben": times(1000, CHANGES["ben"])})
    lead(federation, 4)
    scales = {each.contributor: each.scale for each in federation.latest().contributions}
    assert scales["ada"] == 1
    assert scales["ben"] == pytest.approx(0.003, rel=0.2)
    norms = federation.latest().norms["full, dense"]
    assert max(norms) < 3 * min(norms)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "it changes nothing"),
        ({"scale": np.zeros((), np.float32)}, "it changes nothing"),
        ({name: np.zeros_like(values) for name, values in CHANGES["ada"].items()}, "it changes nothing"),
        (times(1e-20, CHANGES["fay"]), "it changes nothing: its largest number is"),
        ({"scale": np.float32(1e30).reshape(())}, "a change of 1e+30, less than 65536 is taken"),
        (CHANGES["ben"], "its delta is that of contribution"),
        (times(0.5, CHANGES["ben"]), "points the same way as that of contribution"),
        (times(-1, CHANGES["ben"]), "points exactly against that of contribution"),
    ],
    ids=["no tensor", "one zero", "all zeros", "tiny", "1e30", "a copy", "a scaled copy", "a copy turned round"],
)
def test_what_is_no_work_of_ones_own_is_told_so_and_does_not_count(tmp_path: Path, changes, reason: str) -> None:
    federation = make(tmp_path, quorum=3)
    send(federation, {"ben": CHANGES["ben"], "ada": CHANGES["ada"], "mallory": changes})
    lead(federation)
    assert reason in reasons(federation)["mallory"]
    assert len(federation.journal(1).state().admitted) == 2
    assert federation.latest().release == 0


def test_without_screening_all_that_is_sound_counts(tmp_path: Path) -> None:
    federation = make(tmp_path, quorum=6, screening=ScreeningRules.off())
    send(federation, {"ada": CHANGES["ada"], "ben": CHANGES["ada"], "cy": {}, "dee": times(1e6, CHANGES["dee"])})
    send(federation, {"eve": times(-1, CHANGES["ada"]), "fay": times(2, CHANGES["fay"])})
    lead(federation)
    assert (reasons(federation), federation.latest().release) == ({}, 1)
    assert {each.scale for each in federation.latest().contributions} == {1.0}


def test_the_original_is_the_first_that_came_wherever_it_stands_in_the_alphabet(tmp_path: Path) -> None:
    federation = make(tmp_path, quorum=9)
    for at_s, name in ((2.0, "aaron"), (1.0, "zoe"), (3.0, "ben")):
        receive(federation, make_contribution(federation, name, CHANGES["ada"]), at_s=at_s)
    lead(federation)
    assert [a.contributor for a in federation.journal(1).state().admitted.values()] == ["zoe"]
    contribute(federation, "cy", CHANGES["ada"], encoding="BF16")  # in another round trip, and in other bytes
    lead(federation)
    assert set(reasons(federation)) == {"aaron", "ben", "cy"}


def test_what_resembles_another_is_admitted_with_a_note(tmp_path: Path) -> None:
    federation = make(tmp_path, quorum=9)
    alike = {name: values + np.float32(0.2) * CHANGES["ben"][name] for name, values in CHANGES["ada"].items()}
    send(federation, {"ada": CHANGES["ada"], "ben": CHANGES["ben"], "cy": alike})
    lead(federation)
    told = {a.contributor: a.reason for a in federation.journal(1).state().admitted.values()}
    assert "; it resembles contribution" in told["cy"]
    assert "resembles" not in told["ben"]


def test_copies_of_what_an_abandoned_round_left_are_known(tmp_path: Path) -> None:
    federation = make(tmp_path)
    send(federation, {"ada": CHANGES["ada"]})
    lead(federation)
    lead(federation, now_s=61.0)
    lead(federation, 2, now_s=61.0)
    send(federation, {"mallory": times(3, CHANGES["ada"])})
    lead(federation, 2, now_s=61.0)
    assert "the same way as" in reasons(federation, 2)["mallory"]


def test_who_claims_too_much_is_told_so(tmp_path: Path) -> None:
    federation = make(tmp_path)
    contribute(federation, "ada", CHANGES["ada"], num_examples=2**40)
    contribute(federation, "ben", CHANGES["ben"], num_examples=10**9, num_steps=3)
    contribute(federation, "cy", CHANGES["cy"], encoding="F16")
    lying = make_contribution(federation, "dee", CHANGES["dee"], encoding="F16").model_copy(update={"encoding": "F32"})
    receive(federation, lying)
    lead(federation)
    assert reasons(federation) == {
        "ada": "it claims 1,099,511,627,776 examples, at most 1,000,000,000 are taken; count each once",
        "ben": "it claims 1,000,000,000 examples in 3 steps, which no training sees; count each once",
        "dee": "delta: tensor 'embeddings.weight' is in F16, the manifest says F32; upload it with coldfuse",
    }


def test_nobody_takes_the_whole_weight_by_a_claim(tmp_path: Path) -> None:
    federation = make(tmp_path, quorum=3, method="weighted-mean")
    for name, count in (("ada", 100), ("ben", 300), ("mallory", 10**9)):
        contribute(federation, name, CHANGES[name if name in CHANGES else "cy"], num_examples=count, num_steps=0)
    lead(federation)
    fused = {each.contributor: each for each in federation.latest().contributions}
    assert {name: each.weight for name, each in fused.items()} == {"ada": 100, "ben": 300, "mallory": 900}
    assert fused["mallory"].num_examples == 10**9
    closed = federation.journal(1).state().closed
    assert closed is not None
    assert "mallory weighs 900 instead of 1e+09" in closed.reason


@pytest.mark.parametrize("method", ["fedadam", "fedyogi", "fedadagrad"])
def test_no_number_that_two_can_send_freezes_an_adaptive_step(tmp_path: Path, method: str) -> None:
    """Two contributors in a first round are beside nobody: the largest number that is taken comes through."""
    federation = make(tmp_path, method=f"mean then {method}")
    huge = {**CHANGES["ada"], "scale": np.float32(65535).reshape(())}
    send(federation, {"mallory": huge, "ben": CHANGES["ben"]})
    lead(federation)
    before = float(read_release(federation)["scale"].floats)
    assert abs(before - float(MODEL["scale"].floats)) < 1
    moved = 0.0
    for number in range(2, 8):
        lead(federation, number)
        steady = np.float32(0.01).reshape(())
        send(federation, {n: {**make_changes(MODEL, 10 * number + i), "scale": steady} for i, n in enumerate("ab")})
        lead(federation, number)
        moved = float(read_release(federation)["scale"].floats) - before
    assert federation.latest().release == 7
    assert abs(moved) > 0.003


def test_an_operator_shuts_a_name_out_and_lets_it_in_again(tmp_path: Path) -> None:
    federation = make(tmp_path)
    write_quarantine(federation.store, "mallory", is_out=True, reason="sends noise", by="ann")
    send(federation, {"mallory": CHANGES["fay"], "ada": CHANGES["ada"]})
    lead(federation)
    assert reasons(federation) == {"mallory": "mallory is quarantined by the operator: sends noise"}
    write_quarantine(federation.store, "mallory", is_out=False, reason="", by="ann")
    send(federation, {"mallory": CHANGES["cy"]})
    lead(federation)
    assert {each.contributor for each in federation.latest().contributions} == {"ada", "mallory"}


def test_a_quarantine_takes_back_what_was_admitted_and_what_was_carried(tmp_path: Path) -> None:
    federation = make(tmp_path)
    send(federation, {"mallory": CHANGES["fay"]})
    lead(federation)
    lead(federation, now_s=61.0)  # abandoned
    lead(federation, 2, now_s=61.0)
    write_quarantine(federation.store, "mallory", is_out=True, reason="sends noise", by="ann")
    send(federation, {"ada": CHANGES["ada"], "ben": CHANGES["ben"]})
    lead(federation, 2, now_s=61.0)
    assert {each.contributor for each in federation.latest().contributions} == {"ada", "ben"}
    assert reasons(federation, 2) == {"mallory": "mallory is quarantined by the operator: sends noise"}


def test_what_two_looks_say_is_what_one_says(tmp_path: Path) -> None:
    """Folding a journal, and folding what is appended to what was read, give the same state."""
    federation = make(tmp_path, quorum=9)
    send(federation, {name: CHANGES[name] for name in NAMES[:5]} | {"gil": times(100, CHANGES["fay"])})
    before = federation.journal(1).state()
    events = advance(make_round(federation))
    after, read = before.after(events), federation.journal(1).state()
    assert (after.admitted, after.rejected, after.held) == (read.admitted, read.rejected, read.held)
    assert set(fold(events).held) == set(read.held)


def test_what_an_older_version_has_admitted_ends_nothing(tmp_path: Path) -> None:
    """A version before this one carried numbers of examples that no float holds, and scores that add up to infinity."""
    federation = make_federation(tmp_path, MODEL, method="weighted-mean", quorum=3)
    carried = []
    for name, count in (("ada", 10**400), ("ben", int(1.7e308))):
        manifest = make_contribution(federation, name, CHANGES[name])
        data = canonical_json(manifest.model_dump(mode="json") | {"num_examples": count})
        federation.objects.put(sha256(data), data)
        admission = Admission(
            contribution=sha256(data), contributor=name, delta_digest=manifest.delta_digest, num_examples=count,
            score=1.7e308,
        )  # fmt: skip
        carried.append(admission)
    latest = federation.latest()
    federation.journal(1).append(
        Opened(base_release=0, base_digest=latest.model_digest, opened_at_s=0.0, carried=tuple(carried))
    )
    send(federation, {"cy": CHANGES["cy"]})
    lead(federation)
    assert federation.latest().release == 1
    assert max(each.weight for each in federation.latest().contributions) <= 2**40
    with StoreGateway(federation) as gateway:
        assert [each.name.number for each in gateway.releases()] == [1, 0]


def stranger(rng: random.Random, seen: list[Changes]) -> Changes:
    """Return a delta of some kind: honest, long, tiny, nothing, or a copy of one that was sent before."""
    kind = rng.choice(["honest", "honest", "honest", "honest", "long", "tiny", "nothing", "copy"])
    changes = make_changes(MODEL, rng.randrange(10**6))
    if kind == "copy" and seen:
        return times(rng.choice([1, 0.5, -3]), rng.choice(seen))
    return {} if kind == "nothing" else times({"long": rng.choice([5, 50, 1e4]), "tiny": 1e-12}.get(kind, 1), changes)


@pytest.mark.parametrize("seed", range(8))
def test_whoever_sends_whatever_in_whatever_order_everybody_gets_one_verdict(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    federation = make(tmp_path, quorum=rng.randint(3, 7), method=rng.choice(["mean", "median", "weighted-mean"]))
    seen: list[Changes] = []
    number, now_s = 1, 0.0
    for look in range(12):
        for sender in range(rng.randint(0, 3)):
            name = f"n{rng.randrange(12)}"
            seen.append(stranger(rng, seen))
            manifest = make_contribution(
                federation, name, seen[-1], num_examples=rng.choice([1, 100, 10**8]), num_steps=0
            )
            receive(federation, manifest, at_s=look + sender / 10)
        if rng.random() < 0.1:
            write_quarantine(federation.store, f"n{rng.randrange(12)}", is_out=rng.random() < 0.7, reason="x", by="ann")
        now_s += rng.choice([0, 0, 10, 61])
        lead(federation, number, now_s=now_s)
        number = federation.current_round()
        lead(federation, number, now_s=now_s)
    for each in range(1, number):
        state = federation.journal(each).state()
        carried = {a.contribution for a in state.opened.carried} if state.opened else set()
        assert state.is_over
        assert (list(state.held), state.waiting) == ([], [])
        assert {*state.admitted, *state.rejected} == {*state.received, *carried}
        assert not {*state.admitted} & {*state.rejected}
        if state.closed:
            assert set(state.closed.contributions) == set(state.admitted)
    for release in range(1, federation.latest().release + 1):
        fused = federation.release(release).contributions
        assert len({c.contributor for c in fused}) == len({c.delta_digest for c in fused}) == len(fused)
        assert all(np.isfinite(t.floats).all() for t in read_release(federation, release).values() if t.spec.is_fused)
