"""Rounds of contributions that are not stored element by element: what they make is what their expansions make."""

from __future__ import annotations

import numpy as np
import pytest
from encoded_deltas import dense, factors, make_mask, schema_of, send, sparse, whole, write
from tiny_rounds import (
    floats,
    lead,
    make_federation,
    make_model,
    make_round,
    naive_mean,
    read_model,
    read_release,
    write_model,
)
from typer.testing import CliRunner

from coldfuse import fuse
from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import advance
from coldfuse.cli.main import app
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.changes import SparseChange
from coldfuse.tensors.checkpoint import open_checkpoint

MODEL = make_model()


def lora(seed: int) -> dict:
    return {
        "embeddings.weight": factors(50, 8, 3, seed=seed),
        "layer.weight": factors(8, 8, 2, seed=seed + 50, scale=2.0),
        "layer.bias": dense(np.full(8, 0.01 * (seed + 1), np.float32)),
    }


def some(seed: int) -> dict:
    return {"embeddings.weight": sparse(90, 400, seed=seed), "layer.weight": sparse(9, 64, seed=seed + 50)}


def expanded(changes) -> dict:
    return {
        n: whole(c) if hasattr(c, "up") else c.read(0, MODEL[n].spec.num_elements).reshape(MODEL[n].spec.shape)
        for n, c in changes.items()
    }


@pytest.mark.usefixtures("small_parts")
def test_a_round_of_factors_makes_the_mean_of_what_they_expand_to(tmp_path) -> None:
    federation = make_federation(tmp_path, MODEL)
    lead(federation)
    changes = [lora(seed) for seed in range(2)]
    for seed, change in enumerate(changes):
        send(federation, f"c{seed}", change, tmp_path)
    lead(federation)
    assert read_release(federation) == naive_mean(MODEL, [expanded(change) for change in changes])
    assert {a.measured.kind for a in federation.journal(1).state().admitted.values()} == {"full, low-rank"}


@pytest.mark.usefixtures("small_parts")
def test_a_round_of_single_elements_and_of_a_mask_makes_their_mean(tmp_path) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=3)
    lead(federation)
    masked, other = some(0), some(1)
    again = {name: SparseChange(change.indices, change.values[::-1].copy()) for name, change in masked.items()}
    mask = make_mask(tmp_path, schema_of(federation), {name: change.indices for name, change in masked.items()})
    for index, changes in enumerate((masked, again, other)):
        send(federation, f"c{index}", changes, tmp_path, mask=mask if index < 2 else None)
    lead(federation)
    assert read_release(federation) == naive_mean(MODEL, [expanded(changes) for changes in (masked, again, other)])
    kinds = {a.contributor: a.measured.kind for a in federation.journal(1).state().admitted.values()}
    assert kinds == {"c0": "full, masked", "c1": "full, masked", "c2": "full, sparse"}
    files = [tmp_path / f"c{index}.safetensors" for index in range(3)]
    fused = fuse(tmp_path / "base", files, out=tmp_path / "fused")
    assert fused.digest == federation.latest().model_digest


@pytest.mark.parametrize("method", ["mean", "ties(density=0.5)", "dare(drop=0.5) then mean", "median"])
@pytest.mark.usefixtures("small_parts")
def test_a_round_and_a_fusion_of_the_files_make_the_same_bytes(tmp_path, method) -> None:
    federation = make_federation(tmp_path, MODEL, method=method, quorum=4)
    lead(federation)
    values = np.random.default_rng(5).normal(size=(50, 8)).astype(np.float32) * 0.1
    mask = make_mask(tmp_path, schema_of(federation), {name: change.indices for name, change in some(9).items()})
    for index, changes in enumerate([lora(0), lora(1), some(9), {"embeddings.weight": dense(values)}]):
        send(federation, f"c{index}", changes, tmp_path, mask=mask if index == 2 else None)
    lead(federation, executor=ThreadExecutor(2))
    made = federation.latest()
    assert made.release == 1
    base = open_base(federation, federation.release(0)).checkpoint
    files = [tmp_path / f"c{index}.safetensors" for index in range(4)]
    fused = fuse(tmp_path / "base", files[::-1], method=method, out=tmp_path / "fused")
    assert fused.digest == made.model_digest
    assert read_model(tmp_path / "fused") == read_release(federation)
    assert base.digest() == federation.release(0).model_digest


def test_factors_are_worth_exactly_what_they_expand_to(tmp_path) -> None:
    federation = make_federation(tmp_path, MODEL)
    changes = lora(3)
    digest, schema = federation.latest().model_digest, open_base(federation, federation.latest()).schema
    factors_ = write(tmp_path / "factors", schema, changes, base_digest=digest)
    fused = fuse(tmp_path / "base", [factors_], out=tmp_path / "fused")
    assert read_model(tmp_path / "fused") == naive_mean(MODEL, [expanded(changes)])
    assert fused.digest


def test_factors_of_a_tied_weight_count_for_its_copy(tmp_path) -> None:
    weight = np.random.default_rng(0).normal(size=(40, 16))
    names = "model.embed_tokens.weight", "lm_head.weight"
    base = write_model(tmp_path / "base", {name: floats(weight) for name in names})
    checkpoint, one, other = open_checkpoint(base), factors(40, 16, 2), factors(40, 16, 2, seed=3)
    written = {
        "copy": {names[1]: one}, "both": dict.fromkeys(names, one), "apart": {names[0]: one, names[1]: other},
        "partly whole": {names[0]: one, names[1]: dense(whole(one).astype(np.float32))},
    }  # fmt: skip
    files = {
        name: write(tmp_path / name, checkpoint.schema, changes, base_digest=checkpoint.digest())
        for name, changes in written.items()
    }
    fused = fuse(tmp_path / "base", [files["copy"], files["both"]], out=tmp_path / "fused")
    expected = floats(weight.astype(np.float32).astype(np.float64) + whole(one))
    assert read_model(tmp_path / "fused") == dict.fromkeys(names, expected)
    assert fused.digest
    for name in ("apart", "partly whole"):
        with pytest.raises(SchemaMismatchError, match="differ, but in the base they are one tied weight"):
            fuse(tmp_path / "base", [files[name]], out=tmp_path / "refused")


def test_the_doctor_misses_a_mask_and_a_round_takes_it_again(tmp_path) -> None:
    federation = make_federation(tmp_path, MODEL)
    lead(federation)
    masked = some(0)
    mask = make_mask(tmp_path, schema_of(federation), {name: change.indices for name, change in masked.items()})
    send(federation, "ada", masked, tmp_path, mask=mask)
    store = str(tmp_path / "store")
    assert CliRunner().invoke(app, ["doctor", store]).exit_code == 0
    part = mask.blob.parts[-1].digest
    data = federation.store.get(f"objects/{part}")
    federation.store.delete(f"objects/{part}")
    said = CliRunner().invoke(app, ["doctor", store])
    assert (said.exit_code, "needed by round 1, the contribution of ada, its mask" in said.output) == (1, True)
    assert [event.event for event in lead(federation)] == ["damaged"]  # it is no verdict: it can be sent again
    federation.objects.put(part, data)
    send(federation, "ben", lora(1), tmp_path)
    lead(federation)
    assert {one.contributor for one in federation.latest().contributions} == {"ada", "ben"}


def test_all_who_share_a_damaged_mask_are_asked_for_it(tmp_path) -> None:
    federation = make_federation(tmp_path, MODEL)
    lead(federation)
    masked = some(0)
    mask = make_mask(tmp_path, schema_of(federation), {name: change.indices for name, change in masked.items()})
    other = {name: SparseChange(change.indices, change.values[::-1].copy()) for name, change in masked.items()}
    sent = {send(federation, who, what, tmp_path, mask=mask) for who, what in (("ada", masked), ("ben", other))}
    round_ = make_round(federation)
    while federation.journal(1).state().closed is None:
        advance(round_)
    part = mask.blob.parts[-1].digest
    data = federation.store.get(f"objects/{part}")
    (path,) = [found for found in (tmp_path / "store").rglob(f"*{part[2:]}*") if found.is_file()]
    path.chmod(0o644)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert [event.event for event in lead(federation)] == ["damaged"]
    assert federation.journal(1).state().damaged.keys() == sent
    federation.objects.put(part, data)
    assert lead(federation)[-1].event == "published"
