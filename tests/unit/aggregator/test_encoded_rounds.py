"""Rounds of contributions that are not stored element by element: what they make is what their expansions make."""

from __future__ import annotations

import numpy as np
import pytest
from encoded_deltas import dense, factors, send, whole, write
from tiny_rounds import lead, make_federation, make_model, naive_mean, read_model, read_release

from coldfuse.aggregator.model import open_base
from coldfuse import fuse
from coldfuse.engine.execution import ThreadExecutor

MODEL = make_model()


def lora(seed: int) -> dict:
    return {
        "embeddings.weight": factors(50, 8, 3, seed=seed),
        "layer.weight": factors(8, 8, 2, seed=seed + 50, scale=2.0),
        "layer.bias": dense(np.full(8, 0.01 * (seed + 1), np.float32)),
    }


def expanded(changes) -> dict:
    return {n: whole(c) if hasattr(c, "up") else c.read(0, 8) for n, c in changes.items()}


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


@pytest.mark.parametrize("method", ["mean", "ties(density=0.5)", "dare(drop=0.5) then mean", "median"])
@pytest.mark.usefixtures("small_parts")
def test_a_round_and_a_fusion_of_the_files_make_the_same_bytes(tmp_path, method) -> None:
    federation = make_federation(tmp_path, MODEL, method=method, quorum=4)
    lead(federation)
    values = np.random.default_rng(5).normal(size=(50, 8)).astype(np.float32) * 0.1
    many = [lora(0), lora(1), lora(2), {"embeddings.weight": dense(values)}]
    for index, changes in enumerate(many):
        send(federation, f"c{index}", changes, tmp_path)
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
