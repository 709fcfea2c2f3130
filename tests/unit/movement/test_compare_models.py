"""How far one model folder lies from another: the numbers of a naive computation, however the models are stored."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import Model, finetune, floats, integers, make_model, write_model

from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.movement import measure as measuring
from coldfuse.movement.compare import Movement, compare_models


def far(before: Model, after: Model) -> tuple[float, float]:
    """Return ‖Δ‖, and the length of those tensors of the first model that changed."""
    squares, weights = 0.0, 0.0
    for name, tensor in before.items():
        if tensor.spec.is_fused:
            change = after[name].floats.astype(np.float64) - tensor.floats.astype(np.float64)
            squares += float((change**2).sum())
            weights += float((tensor.floats.astype(np.float64) ** 2).sum()) if change.any() else 0.0
    return math.sqrt(squares), math.sqrt(weights)


def compare(tmp_path: Path, before: Model, after: Model, **stored: int) -> Movement:
    one, other = write_model(tmp_path / "one", before), write_model(tmp_path / "other", after, **stored)
    return compare_models(one, str(other))


@pytest.mark.parametrize("run", [1, 7, 1 << 20])
@pytest.mark.parametrize("num_files", [1, 3])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_the_numbers_are_those_of_a_naive_computation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int, num_files: int, dtype: str
) -> None:
    monkeypatch.setattr(measuring, "RUN", run)
    before = make_model(dtype=dtype)
    after = finetune(before, seed=1)
    moved = compare(tmp_path, before, after, num_files=num_files)
    distance, length = far(before, after)
    assert moved.total.distance == pytest.approx(distance, rel=1e-12)
    assert moved.total.relative == pytest.approx(distance / length, rel=1e-12)
    assert sum(one.squares for one in moved.layers.values()) == pytest.approx(distance**2)
    changed = sum(int((after[n].floats != t.floats).sum()) for n, t in before.items() if t.spec.is_fused)
    assert moved.total.num_changed == changed
    assert (moved.total.cosine, moved.movers, moved.differing) == (None, (), [])


def test_a_model_does_not_differ_from_itself(tmp_path: Path) -> None:
    moved = compare(tmp_path, make_model(), make_model(), num_files=2)
    assert (moved.total.distance, moved.total.relative, moved.total.changed) == (0.0, 0.0, 0.0)


def test_another_dtype_is_compared_as_the_numbers_that_it_holds(tmp_path: Path) -> None:
    before = make_model()
    after = {name: floats(t.floats, "BF16") if t.spec.is_fused else t for name, t in before.items()}
    distance, _ = far(before, after)
    assert distance > 0
    assert compare(tmp_path, before, after).total.distance == pytest.approx(distance, rel=1e-12)


def test_positions_that_are_not_the_same_are_named_and_not_measured(tmp_path: Path) -> None:
    moved = compare(tmp_path, make_model(), make_model() | {"position_ids": integers(range(1, 11))})
    assert (moved.differing, moved.total.distance) == (["position_ids"], 0.0)


def test_tied_weights_count_once_whichever_the_second_model_stores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    embedding = floats(rng.normal(size=(6, 4)))
    before = {"embed_tokens.weight": embedding, "lm_head.weight": embedding, "norm.weight": floats(np.ones(4))}
    moved_to = floats(embedding.floats + 0.5)
    after = {"embed_tokens.weight": moved_to, "lm_head.weight": moved_to, "norm.weight": floats(np.ones(4))}
    whole = compare(tmp_path, before, after)
    less = {name: tensor for name, tensor in after.items() if name != "lm_head.weight"}
    other = compare_models(tmp_path / "one", str(write_model(tmp_path / "less", less)))
    assert whole.total.distance == other.total.distance == pytest.approx(0.5 * math.sqrt(24))
    assert "lm_head.weight" not in whole.tensors


def test_another_architecture_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatchError) as caught:
        compare(tmp_path, make_model(), {"encoder.weight": floats(np.ones((3, 3)))})
    assert "\n" not in str(caught.value)


def test_another_shape_is_one_line_that_names_the_tensor(tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatchError, match=r"layer\.weight"):
        compare(tmp_path, make_model(), make_model() | {"layer.weight": floats(np.ones((8, 9)))})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_said_with_its_tensor(tmp_path: Path, bad: float) -> None:
    with pytest.raises(SchemaMismatchError, match=r"'layer\.bias' holds NaN or infinity"):
        compare(tmp_path, make_model(), make_model() | {"layer.bias": floats([bad] * 8)})


def test_a_change_of_a_model_is_no_model(tmp_path: Path) -> None:
    base, adapter = write_model(tmp_path / "base", make_model()), tmp_path / "adapter"
    write_model(adapter, {"base_model.model.layer.lora_A.weight": floats(np.ones((2, 8)))})
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    with pytest.raises((UserInputError, SchemaMismatchError)) as caught:
        compare_models(base, str(adapter))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError):
        compare_models(write_model(tmp_path / "one", make_model()), str(tmp_path / "empty"))
