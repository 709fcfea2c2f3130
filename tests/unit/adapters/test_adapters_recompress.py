"""Low-rank factors of deltas, and what they cannot carry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coldfuse.adapters.adapter import open_adapter, read_stored
from coldfuse.adapters.layout import Layer, LoraLayout, is_embedding_name, layout_by_names
from coldfuse.adapters.recompress import Factors, recompress, recompress_all
from coldfuse.adapters.writing import write_lora_adapter
from coldfuse.core.schema import TensorSpec
from coldfuse.errors import FusionError, UserInputError

SHAPES = {
    "a.weight": (6, 4),
    "b.weight": (3, 5),
    "embeddings.weight": (7, 3),
    "a.bias": (6,),
    "conv.weight": (2, 2, 3, 3),
}
SCHEMA = {name: TensorSpec(dtype="F32", shape=shape) for name, shape in SHAPES.items()}
DELTAS = {name: np.random.default_rng(5).normal(size=shape) for name, shape in SHAPES.items()}


LAYOUT = layout_by_names(SCHEMA)
CONVOLUTION = LoraLayout(layers={"conv.weight": Layer("conv", "convolution")}, dtype="F64")


def product(factors: Factors) -> np.ndarray:
    return factors.b_OR @ factors.a_RI


@pytest.mark.parametrize(("rank", "scale"), [(1, 1.0), (2, 1e-6), (3, 1e-300)])
def test_the_error_is_that_of_the_product(rank: int, scale: float) -> None:
    delta = DELTAS["a.weight"] * scale
    factors = recompress(delta, rank, name="w")
    off = np.linalg.norm((delta - product(factors)) / scale) / np.linalg.norm(delta / scale)
    assert factors.lost / factors.norm == pytest.approx(off, rel=1e-9)


def test_no_other_factors_of_the_rank_are_closer() -> None:
    delta, rng = DELTAS["a.weight"], np.random.default_rng(6)
    factors = recompress(delta, 2, name="w")
    for _ in range(100):
        other = (factors.b_OR + 0.1 * rng.normal(size=(6, 2))) @ (factors.a_RI + 0.1 * rng.normal(size=(2, 4)))
        assert np.linalg.norm(delta - other) > factors.lost


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (7, 2)])
def test_the_full_rank_loses_nothing(shape: tuple[int, int]) -> None:
    delta = np.random.default_rng(7).normal(size=shape)
    factors = recompress(delta, 100, name="w")
    assert factors.lost == 0.0
    np.testing.assert_allclose(product(factors), delta, rtol=1e-12, atol=1e-14)


def test_a_delta_that_is_not_finite_is_refused() -> None:
    with pytest.raises(FusionError, match="w: the fused delta is not finite"):
        recompress(np.array([[np.nan, 1.0]]), 1, name="w")


def test_what_has_no_factors_is_reported_and_counts_as_lost() -> None:
    result = recompress_all(SCHEMA, SCHEMA, lambda name: DELTAS[name].reshape(-1), rank=2, layout=LAYOUT)
    assert list(result.factors) == ["a.weight", "b.weight", "embeddings.weight"]
    assert result.dropped == pytest.approx({name: np.linalg.norm(DELTAS[name]) for name in ("a.bias", "conv.weight")})
    lost = [DELTAS[name] - product(factors) for name, factors in result.factors.items()]
    lost += [DELTAS[name] for name in result.dropped]
    total = np.sqrt(sum(np.sum(values**2) for values in lost) / sum(np.sum(values**2) for values in DELTAS.values()))
    assert result.relative_error == pytest.approx(total, rel=1e-9)


def test_what_did_not_change_has_no_factors() -> None:
    result = recompress_all(SCHEMA, SCHEMA, lambda name: np.zeros(SHAPES[name]), rank=2, layout=LAYOUT)
    assert (result.factors, result.dropped, result.relative_error) == ({}, {}, 0.0)


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(UserInputError, match="rank 0: expected 1 or more"):
        recompress_all(SCHEMA, SCHEMA, DELTAS.__getitem__, rank=0, layout=LAYOUT)


@pytest.mark.parametrize(
    "layout",
    [layout_by_names(SCHEMA, dtype="F64"), layout_by_names(SCHEMA, model_type="gpt2", dtype="F64"), CONVOLUTION],
    ids=["linear", "transposed", "convolution"],
)
def test_what_is_written_reads_back_as_the_same_delta(tmp_path: Path, layout: LoraLayout) -> None:
    factors = recompress_all(SCHEMA, SCHEMA, DELTAS.__getitem__, rank=4, layout=layout).factors
    write_lora_adapter(tmp_path / "out", "./base", factors, schema=SCHEMA, layout=layout)
    adapter = open_adapter(tmp_path / "out", SCHEMA, what="out")
    assert set(adapter.tensors) == set(factors)
    for name, tensor in adapter.tensors.items():
        delta = tensor.delta_rows(read_stored, np.empty(0), 0, tensor.shape[0])
        np.testing.assert_allclose(delta, product(factors[name]), rtol=1e-12, atol=1e-14)


def test_the_folder_says_what_it_is(tmp_path: Path) -> None:
    factors = recompress_all(SCHEMA, ["a.weight", "b.weight"], DELTAS.__getitem__, rank=4, layout=LAYOUT).factors
    write_lora_adapter(tmp_path, "org/base", factors, schema=SCHEMA, layout=LAYOUT)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"], config["lora_alpha"]) == ("org/base", 4, 4)
    assert config["target_modules"] == ["a", "b"]


def test_an_adapter_is_never_overwritten(tmp_path: Path) -> None:
    factors = recompress_all(SCHEMA, ["a.weight"], DELTAS.__getitem__, rank=1, layout=LAYOUT).factors
    write_lora_adapter(tmp_path, "base", factors, schema=SCHEMA, layout=LAYOUT)
    with pytest.raises(UserInputError, match="holds an adapter already"):
        write_lora_adapter(tmp_path, "base", factors, schema=SCHEMA, layout=LAYOUT)


def test_an_adapter_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no layer has changed"):
        write_lora_adapter(tmp_path, "base", {}, schema=SCHEMA, layout=LAYOUT)


def test_embeddings_are_known_by_their_usual_names() -> None:
    usual = [
        "embeddings.word_embeddings.weight", "model.embed_tokens.weight", "wte.weight", "shared.weight",
        "block.0.relative_attention_bias.weight",
    ]  # fmt: skip
    others = ["embed_out.weight", "embeddings.dense.weight", "lm_head.weight", "encoder.query.weight"]
    assert [name for name in (*usual, *others) if is_embedding_name(name)] == usual
