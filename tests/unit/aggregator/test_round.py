from __future__ import annotations

import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
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
    small_parts,
)

from coldfuse.aggregator.execution import ThreadExecutor
from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import MAX_VERDICTS, Round, advance
from coldfuse.codec.manifests import canonical_json, decode, encode, sha256
from coldfuse.core.contribution import Rejection
from coldfuse.core.round import Abandoned, Admitted, Received, Rejected
from coldfuse.core.schema import TensorSpec
from coldfuse.errors import ConflictError, StorageError
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Head, Journal

__all__ = ["small_parts"]
MODEL = make_model()
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(("ada", "ben", "cy"))}


def naive_mean(model, changes, weights=None):
    """Fuse tensor by tensor, all at once, in float64."""
    weights = weights or [1.0] * len(changes)
    fused = {}
    for name, tensor in model.items():
        if tensor.spec.is_fused and any(name in change for change in changes):
            pairs = zip(weights, changes, strict=True)
            total = sum(w * change[name].astype(np.float64) for w, change in pairs if name in change)
            fused[name] = floats(tensor.floats.astype(np.float64) + total / sum(weights), tensor.spec.dtype)
        else:
            fused[name] = tensor
    return fused


def events(appended) -> list[str]:
    return [event.event for event in appended]


def reasons(federation: Federation, number: int = 1) -> dict[str, str]:
    state = federation.journal(number).state()
    return {rejection.contributor: rejection.reason for rejection in state.rejected.values()}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Return one whose first round is open."""
    made = make_federation(tmp_path, MODEL)
    assert events(lead(made)) == ["opened"]
    return made


def test_a_round_fuses_the_mean_of_its_contributions(federation: Federation) -> None:
    for name, changes in CHANGES.items():
        contribute(federation, name, changes)
    assert events(lead(federation)) == ["admitted", "closed", "fused", "published"]
    assert federation.latest().release == 1
    assert read_release(federation) == naive_mean(MODEL, list(CHANGES.values()))


def test_a_contribution_counts_by_its_examples(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="weighted-mean")
    lead(federation)
    contribute(federation, "ada", {"scale": np.float32(3.0).reshape(())}, num_examples=100)
    contribute(federation, "ben", {"scale": np.float32(0.5).reshape(())}, num_examples=300)
    lead(federation)
    expected = float(MODEL["scale"].floats) + (100 * 3.0 + 300 * 0.5) / 400
    assert read_release(federation)["scale"] == floats(expected)
    assert {c.contributor: c.weight for c in federation.latest().contributions} == {"ada": 100.0, "ben": 300.0}


def test_the_next_round_starts_from_the_release(federation: Federation) -> None:
    for number in (1, 2):
        lead(federation, number)
        for name in ("ada", "ben"):
            contribute(federation, name, CHANGES[name])
        lead(federation, number)
    once = naive_mean(MODEL, [CHANGES["ada"], CHANGES["ben"]])
    assert read_release(federation) == naive_mean(once, [CHANGES["ada"], CHANGES["ben"]])
    assert (federation.latest().parent, federation.latest().round) == (1, 2)


@pytest.mark.parametrize("num_files", [1, 3])
def test_any_order_and_number_of_threads_makes_the_same_model(tmp_path: Path, small_parts: int, num_files: int) -> None:
    digests = set()
    for threads, order in ((1, "ada ben cy"), (3, "cy ada ben"), (2, "ben cy ada")):
        federation = make_federation(tmp_path / str(threads), MODEL, num_files=num_files)
        lead(federation)
        for at_s, name in enumerate(order.split()):
            receive(federation, make_contribution(federation, name, CHANGES[name]), at_s=float(at_s))
        lead(federation, executor=ThreadExecutor(threads))
        digests.add(federation.latest().model_digest)
    assert read_release(federation) == naive_mean(MODEL, list(CHANGES.values()))
    assert len(digests) == 1


def test_not_even_a_sum_that_depends_on_its_order_depends_on_the_arrival(tmp_path: Path) -> None:
    values = {"ada": [1.0, 1.0], "ben": [2.0**-53, 1.0], "cy": [2.0**-53, 2.0]}
    digests = set()
    for number, order in enumerate(permutations(values)):
        federation = make_federation(tmp_path / str(number), {"a": floats([0.0, 0.0], "F64")})
        lead(federation)
        for at_s, name in enumerate(order):
            changes = {"a": np.array(values[name], np.float32)}
            receive(federation, make_contribution(federation, name, changes), at_s=float(at_s))
        lead(federation)
        digests.add(federation.latest().model_digest)
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F64"])
@pytest.mark.parametrize("encoding", ["F32", "BF16", "F16"])
def test_bases_of_other_dtypes_are_rounded_once(tmp_path: Path, dtype: str, encoding: str) -> None:
    model = make_model(dtype=dtype)
    federation = make_federation(tmp_path, model)
    lead(federation)
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name], encoding=encoding)
    lead(federation)
    sent = [{k: floats(v, encoding).floats for k, v in CHANGES[name].items()} for name in ("ada", "ben")]
    assert read_release(federation) == naive_mean(model, sent)


def test_what_nobody_changed_keeps_its_parts(tmp_path: Path, small_parts: int) -> None:
    federation = make_federation(tmp_path, MODEL)
    lead(federation)
    for value, name in enumerate(("ada", "ben")):
        contribute(federation, name, {"embeddings.weight": np.full((50, 8), value, np.float32)})
    lead(federation)
    base, release = (federation.release(n).files for n in (0, 1))
    pairs = list(zip(base["model.safetensors"].parts, release["model.safetensors"].parts, strict=True))
    assert base["config.json"] == release["config.json"]
    assert 2 < sum(old == new for old, new in pairs) < len(pairs)
    assert read_release(federation)["layer.weight"] == MODEL["layer.weight"]


def test_a_round_in_which_nothing_changed_keeps_the_model(federation: Federation) -> None:
    for name in ("ada", "ben"):
        contribute(federation, name, {}, num_examples=len(name) + ord(name[0]))
    lead(federation)
    assert federation.latest().release == 1
    assert federation.latest().model_digest == federation.release(0).model_digest


def bad_contributions():
    nan, inf = dict(CHANGES["cy"]), dict(CHANGES["cy"])
    nan["layer.weight"] = np.full((8, 8), np.nan, np.float32)
    inf["layer.weight"] = np.where(np.eye(8), np.float32(np.inf), np.float32(-np.inf))
    huge = {"scale": np.float32(3e38).reshape(())}
    wrong_shape = {"layer.bias": TensorSpec(dtype="F32", shape=(9,))}
    unknown = {"classifier\x1b[31m": TensorSpec(dtype="F32", shape=(2,))}
    return {
        "NaN": (nan, {}, "tensor 'layer.weight' has 64 values that are NaN or infinite"),
        "infinite both ways": (inf, {}, "tensor 'layer.weight' has 64 values that are NaN or infinite"),
        "huge": (huge, {}, "tensor 'scale' has a change of 3e+38, the base is F32 and takes less than 1.01412e+31"),
        "wrong base": (CHANGES["cy"], {"base_digest": sha256(b"x")}, f"its base has digest {sha256(b'x')}"),
        "wrong round": (CHANGES["cy"], {"round": 1, "base_release": 5}, "it is for round 1 on release 5"),
        "wrong shape": ({"layer.bias": np.zeros(9, np.float32)}, {"schema": wrong_shape}, "shape [9], base has [8]"),
        "unknown": ({next(iter(unknown)): np.zeros(2, np.float32)}, {"schema": unknown}, "the base has no such tensor"),
    }


@pytest.mark.parametrize("case", bad_contributions())
def test_a_bad_contribution_is_told_why_and_the_round_goes_on(federation: Federation, case: str) -> None:
    changes, options, reason = bad_contributions()[case]
    contribute(federation, "cy", changes, **options)
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name])
    lead(federation)
    assert reason in reasons(federation)["cy"]
    assert reasons(federation)["cy"].isprintable()
    assert read_release(federation) == naive_mean(MODEL, [CHANGES["ada"], CHANGES["ben"]])


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_no_admitted_contribution_can_stop_the_fusion_by_its_size(tmp_path: Path, dtype: str) -> None:
    top = {"F16": 65504.0, "BF16": 3.3895313892515355e38, "F32": 3.4028234663852886e38}[dtype]
    federation = make_federation(tmp_path, MODEL | {"scale": floats(top, dtype)}, quorum=1)
    lead(federation)
    limit = {"F16": 16.0, "BF16": 2.0**119, "F32": 2.0**103}[dtype]
    contribute(federation, "ada", {"scale": np.float32(limit).reshape(())})
    contribute(federation, "ben", {"scale": np.nextafter(np.float32(limit), np.float32(0)).reshape(())})
    lead(federation)
    assert set(reasons(federation)) == {"ada"}
    assert read_release(federation)["scale"] == floats(top, dtype)


def break_delta(federation: Federation, manifest, damage) -> None:
    """Change the bytes of a delta's last part on the disk, under its name."""
    path = Path(federation.store.url) / "objects" / manifest.delta.parts[-1].digest
    data = path.read_bytes()
    os.chmod(path, 0o644)
    path.write_bytes(damage(data))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "does not have the SHA-256 that it is named by"),
        (lambda data: data[:-1], "is incomplete"),
        (lambda data: b"", "is incomplete"),
    ],
    ids=["one bit", "cut off", "empty"],
)
def test_a_damaged_part_is_seen(federation: Federation, damage, reason: str) -> None:
    manifest = make_contribution(federation, "cy", CHANGES["cy"])
    receive(federation, manifest)
    break_delta(federation, manifest, damage)
    lead(federation)
    assert reason in reasons(federation)["cy"]


def test_a_part_that_is_gone_is_a_rejection(federation: Federation) -> None:
    manifest = make_contribution(federation, "cy", CHANGES["cy"])
    receive(federation, manifest)
    federation.store.delete(f"objects/{manifest.delta.parts[0].digest}")
    lead(federation)
    assert "no such" in reasons(federation)["cy"]


def test_a_store_that_is_away_is_nobodys_fault(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    contribute(federation, "cy", CHANGES["cy"])

    def fail(*_: object, **__: object) -> None:
        raise StorageError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(type(federation.store), "read_into", fail)
        with pytest.raises(StorageError, match="injected"):
            lead(federation)
    assert reasons(federation) == {}
    lead(federation)
    assert len(federation.journal(1).state().admitted) == 1


@pytest.mark.parametrize("hostile", ["[" * 100_000, canonical_json({"scale": "\x1b[2J"}).decode()])
def test_hostile_metadata_is_a_rejection(federation: Federation, monkeypatch: pytest.MonkeyPatch, hostile: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.codec.deltas.canonical_json", lambda _: hostile.encode())
        contribute(federation, "cy", {"scale": CHANGES["cy"]["scale"]})
    lead(federation)
    assert reasons(federation)["cy"].isprintable()


def test_a_second_contribution_to_one_base_is_rejected(federation: Federation) -> None:
    first = receive(federation, make_contribution(federation, "ada", CHANGES["ada"]), at_s=1.0)
    receive(federation, make_contribution(federation, "ada", CHANGES["ben"]), at_s=2.0)
    lead(federation)
    assert reasons(federation) == {"ada": f"ada has contributed to this base already ({first[:12]})"}
    assert set(federation.journal(1).state().admitted) == {first}


def test_after_a_rejection_the_same_contributor_gets_another_try(federation: Federation) -> None:
    receive(federation, make_contribution(federation, "ada", {"scale": np.float32(np.nan).reshape(())}), at_s=1.0)
    second = receive(federation, make_contribution(federation, "ada", CHANGES["ada"]), at_s=2.0)
    lead(federation)
    state = federation.journal(1).state()
    assert (len(state.rejected), set(state.admitted)) == (1, {second})


def test_a_name_that_is_not_the_manifests_is_rejected(federation: Federation) -> None:
    manifest = make_contribution(federation, "ada", CHANGES["ada"])
    digest = federation.objects.put_value(manifest)
    federation.journal(1).receive(Received(contribution=digest, contributor="eve", received_at_s=0.0))
    lead(federation)
    assert reasons(federation) == {"eve": "its manifest names ada, it came from eve"}


def test_a_contribution_that_comes_after_the_end_gets_a_verdict(federation: Federation) -> None:
    late = make_contribution(federation, "cy", CHANGES["cy"])
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name])
    lead(federation)
    receive(federation, late)
    assert events(lead(federation)) == ["rejected"]
    assert "round 1 closed before it could be screened" in reasons(federation)["cy"]
    assert lead(federation) == []


def test_without_a_quorum_the_contributions_count_for_the_next_round(federation: Federation) -> None:
    contribute(federation, "ada", CHANGES["ada"])
    assert events(lead(federation, now_s=59.0)) == ["admitted"]
    assert isinstance(lead(federation, now_s=60.0)[0], Abandoned)
    assert federation.current_round() == 2
    opened = lead(federation, 2, now_s=60.0)[0]
    assert [admission.contributor for admission in opened.carried] == ["ada"]
    contribute(federation, "ben", CHANGES["ben"])
    assert events(lead(federation, 2, now_s=61.0)) == ["admitted", "closed", "fused", "published"]
    assert read_release(federation) == naive_mean(MODEL, [CHANGES["ada"], CHANGES["ben"]])


def test_what_was_carried_twice_is_fused_once(federation: Federation) -> None:
    contribute(federation, "ada", CHANGES["ada"])
    for number in (1, 2):
        lead(federation, number, now_s=100.0 * number - 100)
        lead(federation, number, now_s=100.0 * number)
    lead(federation, 3, now_s=200.0)
    contribute(federation, "ada", CHANGES["ben"])
    contribute(federation, "cy", CHANGES["cy"])
    lead(federation, 3, now_s=201.0)
    assert "ada has contributed to this base already" in reasons(federation, 3)["ada"]
    assert read_release(federation) == naive_mean(MODEL, [CHANGES["ada"], CHANGES["cy"]])


def test_an_empty_round_waits_for_as_long_as_it_takes(federation: Federation) -> None:
    assert lead(federation, now_s=1e9) == []


class CrashError(Exception):
    """Stands for a kill."""


class CrashingJournal(Journal):
    """Dies before or after its n-th append of all of them."""

    countdown, before, fired = -1, False, 0

    def append(self, event) -> None:
        kind = type(self)
        kind.countdown -= 1
        if kind.countdown == 0 and kind.before:
            kind.fired += 1
            raise CrashError
        super().append(event)
        if kind.countdown == 0:
            kind.fired += 1
            raise CrashError


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("n", range(1, 7))
def test_an_aggregator_that_dies_at_any_append_is_continued_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, before: bool
) -> None:
    federation = make_federation(tmp_path, MODEL)
    lead(federation)
    bad = {"scale": np.float32(np.nan).reshape(())}
    sent = {contribute(federation, name, CHANGES[name]) for name in ("ada", "ben")} | {contribute(federation, "x", bad)}
    CrashingJournal.countdown, CrashingJournal.before, CrashingJournal.fired = n, before, 0
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.registry.federation.Journal", CrashingJournal)
        try:
            lead(federation)
        except CrashError:
            pass
    assert CrashingJournal.fired == (n <= 5)  # rejected, admitted, closed, fused, published
    late = receive(federation, make_contribution(federation, "cy", CHANGES["cy"], round=1))
    lead(federation)
    state = federation.journal(1).state()
    assert sent | {late} == set(state.received)
    assert [(d in state.admitted) + (d in state.rejected) for d in state.received] == [1] * 4
    fused = [CHANGES[name] for name in ("ada", "ben", "cy") if contributed(state, name)]
    assert read_release(federation, 1) == naive_mean(MODEL, fused)


def contributed(state, name: str) -> bool:
    return any(a.contributor == name and a.contribution in state.closed.contributions for a in state.admitted.values())


def test_verdicts_come_in_few_entries(federation: Federation) -> None:
    for name in ("ada", "ben", "cy"):
        contribute(federation, name, CHANGES[name])
    appended = lead(federation)
    assert [len(event.admissions) for event in appended if isinstance(event, Admitted)] == [3]
    assert not [event for event in appended if isinstance(event, Rejected)]


def test_many_verdicts_are_split_into_entries_that_can_be_read(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldfuse.aggregator.round.MAX_VERDICTS", 2)
    bad = {"scale": np.float32(np.nan).reshape(())}
    for name in ("a", "b", "c", "d", "e"):
        contribute(federation, name, bad)
    contribute(federation, "ada", CHANGES["ada"])
    appended = lead(federation)
    assert [len(event.rejections) for event in appended if isinstance(event, Rejected)] in (
        [2, 2, 1],
        [2, 1, 2],
        [1, 2, 2],
    )
    assert len(federation.journal(1).state().rejected) == 5
    assert len(federation.journal(1).state().admitted) == 1


def test_the_longest_verdicts_of_one_entry_can_be_read() -> None:
    rejection = Rejection(contribution=sha256(b"x"), contributor="c" * 63, reason="\U0001f9ca" * 2000)
    entry = Head(seq=1, entry=Rejected(rejections=(rejection,) * MAX_VERDICTS))
    assert decode(Head, encode(entry), what="head") == entry


def test_a_leader_with_a_release_that_is_the_latest_no_more_opens_nothing(federation: Federation) -> None:
    stale = open_base(federation, federation.latest())
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name])
    lead(federation)
    this = Round(
        federation=federation, journal=federation.journal(2), base=stale, executor=ThreadExecutor(1), now_s=lambda: 0.0
    )
    with pytest.raises(ConflictError, match="release 0 is the latest no more"):
        advance(this)
    assert federation.journal(2).head() is None
    assert lead(federation, 2)[0].base_release == 1
