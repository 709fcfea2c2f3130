"""LoRA of parameters that hold all experts of a layer, in one tensor or in parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import floats, write_file

from coldfuse.adapters.adapter import Adapter, open_adapter, read_stored
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.errors import SchemaMismatchError, UserInputError

EXPERTS, RANK, HIDDEN, INNER = 3, 2, 4, 5
TARGETS = ["experts.gate_up_proj", "experts.down_proj"]
RNG = np.random.default_rng(1)
SCALE = 4 / RANK


def schema(**shapes: tuple[int, ...]) -> Schema:
    named = {name.replace("__", "."): shape for name, shape in shapes.items()}
    return {name: TensorSpec(dtype="F32", shape=shape) for name, shape in named.items()}


def factors(outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = RNG.normal(size=(EXPERTS * RANK, inputs)), RNG.normal(size=(outputs, EXPERTS * RANK))
    return a.astype(np.float32), b.astype(np.float32)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply each expert's factors, as PEFT's own formula does."""
    of_a = a.astype(float).reshape(EXPERTS, RANK, -1)
    of_b = b.astype(float).reshape(len(b), RANK, EXPERTS)
    return SCALE * np.einsum("ore,eri->eoi", of_b, of_a)


def opened(
    folder: Path, tensors: dict[str, np.ndarray], base: Schema, model_type: str = "llama4", **settings: object
) -> Adapter:
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "target_parameters": TARGETS, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    stored = {f"base_model.model.{name}": floats(values) for name, values in tensors.items()}
    write_file(folder / "adapter_model.safetensors", stored)
    return open_adapter(folder, base, what="alice", base_config={"model_type": model_type})


def delta(adapter: Adapter, name: str, step: int = 100) -> np.ndarray:
    tensor = adapter.tensors[name]
    rows, columns = tensor.rows_columns
    parts = [
        tensor.delta_rows(read_stored, np.empty((0, columns)), first, min(step, rows - first))
        for first in range(0, rows, step)
    ]
    return np.concatenate(parts).reshape(tensor.shape)


UP, DOWN = factors(2 * INNER, HIDDEN), factors(HIDDEN, INNER)
NESTED = {
    "l.experts.base_layer.lora_A.weight": UP[0], "l.experts.base_layer.lora_B.weight": UP[1],
    "l.experts.lora_A.weight": DOWN[0], "l.experts.lora_B.weight": DOWN[1],
}  # fmt: skip


@pytest.mark.parametrize("step", [1, 3, 100])
def test_outputs_first_or_inputs_first_follows_from_the_shapes(tmp_path: Path, step: int) -> None:
    base = schema(l__experts__gate_up_proj=(EXPERTS, 2 * INNER, HIDDEN), l__experts__down_proj=(EXPERTS, INNER, HIDDEN))
    adapter = opened(tmp_path, NESTED, base)
    np.testing.assert_allclose(delta(adapter, "l.experts.gate_up_proj", step), product(*UP), rtol=1e-13)
    turned = product(*DOWN).transpose(0, 2, 1)
    np.testing.assert_allclose(delta(adapter, "l.experts.down_proj", step), turned, rtol=1e-13)
    assert delta(adapter, "l.experts.down_proj", step).tobytes() == delta(adapter, "l.experts.down_proj").tobytes()


@pytest.mark.parametrize(("model_type", "is_turned"), [("gpt_oss", True), ("llama4", False)])
def test_square_experts_lie_as_the_type_of_model_says(tmp_path: Path, model_type: str, is_turned: bool) -> None:
    a, b = factors(HIDDEN, HIDDEN)
    tensors = {"l.experts.lora_A.weight": a, "l.experts.lora_B.weight": b}
    base = schema(l__experts__down_proj=(EXPERTS, HIDDEN, HIDDEN))
    adapter = opened(tmp_path, tensors, base, model_type, target_parameters=["down_proj"])
    expected = product(a, b).transpose(0, 2, 1) if is_turned else product(a, b)
    np.testing.assert_allclose(delta(adapter, "l.experts.down_proj"), expected, rtol=1e-13)
    with pytest.raises(SchemaMismatchError, match=r"as many inputs as outputs, and .* no model_type"):
        opened(tmp_path, tensors, base, "", target_parameters=["down_proj"])


def test_two_square_parameters_are_told_by_their_nesting(tmp_path: Path) -> None:
    shape = (EXPERTS, HIDDEN, HIDDEN)
    outer, inner = factors(HIDDEN, HIDDEN), factors(HIDDEN, HIDDEN)
    tensors = {
        "l.experts.lora_A.weight": outer[0], "l.experts.lora_B.weight": outer[1],
        "l.experts.base_layer.lora_A.weight": inner[0], "l.experts.base_layer.lora_B.weight": inner[1],
    }  # fmt: skip
    adapter = opened(tmp_path, tensors, schema(l__experts__gate_up_proj=shape, l__experts__down_proj=shape))
    np.testing.assert_allclose(delta(adapter, "l.experts.down_proj"), product(*outer), rtol=1e-13)
    np.testing.assert_allclose(delta(adapter, "l.experts.gate_up_proj"), product(*inner), rtol=1e-13)


def test_experts_that_the_base_stores_in_parts_get_their_rows(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for expert in range(EXPERTS):
        shapes |= {f"l__experts__{expert}__{part}_proj__weight": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes[f"l__experts__{expert}__down_proj__weight"] = (HIDDEN, INNER)
    adapter = opened(tmp_path, NESTED, schema(**shapes))
    assert len(adapter.tensors) == 3 * EXPERTS
    for expert in range(EXPERTS):
        gate, up = product(*UP)[expert, :INNER], product(*UP)[expert, INNER:]
        for name, expected in (("gate", gate), ("up", up), ("down", product(*DOWN)[expert])):
            np.testing.assert_allclose(delta(adapter, f"l.experts.{expert}.{name}_proj.weight"), expected, rtol=1e-13)


def test_ranks_and_alphas_go_by_the_name_of_the_parameter(tmp_path: Path) -> None:
    base = schema(l__experts__gate_up_proj=(EXPERTS, 2 * INNER, HIDDEN), l__experts__down_proj=(EXPERTS, INNER, HIDDEN))
    patterns = {"rank_pattern": {"gate_up_proj": RANK, "down_proj": RANK}, "alpha_pattern": {"experts.down_proj": 8}}
    adapter = opened(tmp_path, NESTED, base, r=8, **patterns)
    np.testing.assert_allclose(delta(adapter, "l.experts.gate_up_proj"), product(*UP), rtol=1e-13)
    turned = 2 * product(*DOWN).transpose(0, 2, 1)
    np.testing.assert_allclose(delta(adapter, "l.experts.down_proj"), turned, rtol=1e-13)


def test_factors_that_fit_nowhere_are_one_clear_line(tmp_path: Path) -> None:
    base = schema(l__experts__gate_up_proj=(EXPERTS, 7, HIDDEN), l__experts__down_proj=(EXPERTS, INNER, HIDDEN))
    with pytest.raises(SchemaMismatchError, match=r"alice: module 'l.experts': its factors .* fit .* nowhere"):
        opened(tmp_path, NESTED, base)
    good = schema(l__experts__gate_up_proj=(EXPERTS, 2 * INNER, HIDDEN), l__experts__down_proj=(EXPERTS, INNER, HIDDEN))
    with pytest.raises(UserInputError, match=r"has lora_A, lora_B, lora_B\.bias, expected lora_A and lora_B alone"):
        opened(tmp_path, NESTED | {"l.experts.lora_B.bias": np.zeros(HIDDEN)}, good)
