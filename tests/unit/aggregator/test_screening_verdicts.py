from __future__ import annotations

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
    make_round,
    naive_mean,
    read_release,
    receive,
)

from coldfuse.aggregator.round import advance
from coldfuse.core.round import Received
from coldfuse.core.schema import TensorSpec
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.errors import StorageError
from coldfuse.registry.federation import Federation

MODEL = make_model()
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(("ada", "ben", "cy"))}


def reasons(federation: Federation, number: int = 1) -> dict[str, str]:
    state = federation.journal(number).state()
    return {rejection.contributor: rejection.reason for rejection in state.rejected.values()}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Return one whose first round is open."""
    made = make_federation(tmp_path, MODEL)
    lead(made)
    return made


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
        "wrong base": (CHANGES["cy"], {"base_digest": sha256(b"x")}, f"relative to release 0 ({sha256(b'x')[:12]})"),
        "wrong round": (CHANGES["cy"], {"round": 1, "base_release": 5}, "the delta is relative to release 5"),
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
    model = MODEL | {"scale": floats(top, dtype)}
    federation = make_federation(tmp_path, model, quorum=1, screening=ScreeningRules.off())
    lead(federation)
    limit = {"F16": 16.0, "BF16": 2.0**119, "F32": 2.0**103}[dtype]
    contribute(federation, "ada", {"scale": np.float32(limit).reshape(())})
    contribute(federation, "ben", {"scale": np.nextafter(np.float32(limit), np.float32(0)).reshape(())})
    lead(federation)
    assert set(reasons(federation)) == {"ada"}
    assert read_release(federation)["scale"] == floats(top, dtype)


def test_a_store_that_is_away_is_nobodys_fault(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    contribute(federation, "cy", CHANGES["cy"])

    get = federation.store.get

    def fail(*_: object, **__: object) -> None:
        raise StorageError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(type(federation.store), "read_into", fail)
        patch.setattr(type(federation.store), "get", lambda _, key, **r: fail() if "objects" in key else get(key, **r))
        with pytest.raises(StorageError, match="injected"):
            lead(federation)
    assert reasons(federation) == {}
    lead(federation)
    assert len(federation.journal(1).state().admitted) == 1


@pytest.mark.parametrize("hostile", ["[" * 100_000, canonical_json({"scale": "\x1b[2J"}).decode()])
def test_hostile_metadata_is_a_rejection(federation: Federation, monkeypatch: pytest.MonkeyPatch, hostile: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.tensors.deltas.canonical_json", lambda _: hostile.encode())
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


def test_a_digest_that_is_not_the_deltas_is_rejected(federation: Federation) -> None:
    manifest = make_contribution(federation, "ada", CHANGES["ada"]).model_copy(update={"delta_digest": "0" * 64})
    receive(federation, manifest, at_s=0.0)
    lead(federation)
    assert "a digest that is not its delta's" in reasons(federation)["ada"]


def test_a_stream_of_bad_contributions_does_not_keep_a_round_open(federation: Federation) -> None:
    """Every look finds a new bad one; the round is decided in the same look all the same."""
    contribute(federation, "mallory", {"scale": np.float32(np.nan).reshape(())})
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name])
    assert [event.event for event in advance(make_round(federation))] == ["rejected", "admitted", "closed"]


def test_a_header_that_is_far_longer_than_the_base_needs_is_not_read(federation: Federation) -> None:
    many = {f"tensor.{index:06d}": TensorSpec(dtype="F32", shape=(0,)) for index in range(1000)}
    empty = {name: np.zeros(0, np.float32) for name in many}
    contribute(federation, "mallory", empty, schema=many)
    lead(federation)
    assert "its header claims" in reasons(federation)["mallory"]


@pytest.mark.parametrize("encoding", ["F32", "BF16"])
def test_no_contribution_stops_a_round_by_a_variance_below_zero(tmp_path: Path, encoding: str) -> None:
    """Fusion refuses to make one, of whoever is there: so who brings one is refused alone, but for rounding."""
    name = "bn.running_var"
    model = MODEL | {name: floats([1.0055, 2.0])}
    federation = make_federation(tmp_path, model, quorum=2)
    lead(federation)
    contribute(federation, "liar", {name: np.array([-10.0, 0.0], np.float32)}, encoding=encoding)
    contribute(federation, "ada", {name: np.array([-1.0054, 0.0], np.float32)}, encoding=encoding)  # BF16: -1.0078
    contribute(federation, "ben", {name: np.array([-1.0054, 1.0], np.float32)}, encoding=encoding)
    lead(federation)
    assert reasons(federation).keys() == {"liar"}
    assert f"tensor '{name}' would be negative with it" in reasons(federation)["liar"]
    fused = read_release(federation)[name].floats
    assert 0 <= fused[0] < 1e-3
    assert fused[1] == 2.5
