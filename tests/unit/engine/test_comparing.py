"""Weights that are compared in one pass, against numpy on whole tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import Model, floats, make_model, write_model

from coldfuse.engine.comparing import compare_weights, total
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import FusionError, SchemaMismatchError
from coldfuse.evaluation.likeness import weight_likeness

BASE = make_model()
FUSED = [name for name, tensor in BASE.items() if tensor.spec.is_fused and tensor.spec.num_elements]


def changed(seed: int, dtype: str = "F32") -> Model:
    """Change every other element, so that signs can agree, differ, or be of nothing."""
    random = np.random.default_rng(seed)
    made = dict(BASE)
    for name in FUSED:
        shape = BASE[name].spec.shape
        made[name] = floats(BASE[name].floats + random.normal(size=shape) * (random.random(shape) < 0.5), dtype)
    return made


def vector(model: Model, *, minus: Model | None) -> np.ndarray:
    own = [model[name].floats - (0 if minus is None else minus[name].floats.astype(float)) for name in FUSED]
    return np.concatenate([values.reshape(-1).astype(np.float64) for values in own])


@pytest.mark.parametrize("of_weights", [False, True])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_sums_are_those_of_whole_tensors(tmp_path: Path, dtype: str, of_weights: bool) -> None:
    models = [changed(seed, dtype) for seed in (1, 2, 3)]
    base = write_model(tmp_path / "base", BASE)
    folders = [write_model(tmp_path / str(i), model, num_files=i + 1) for i, model in enumerate(models)]
    sides, _ = compare_weights(
        base, folders, ThreadExecutor(2, memory_bytes=1 << 28), scratch=tmp_path, of_weights=of_weights
    )
    assert sorted(sides) == sorted(FUSED)
    rows = np.stack([vector(model, minus=None if of_weights else BASE) for model in models])
    sums = total(sides.values())
    np.testing.assert_allclose(sums[0], rows @ rows.T, rtol=1e-9)
    np.testing.assert_array_equal(sums[1], ((rows[:, None] * rows[None]) > 0).sum(axis=2))
    np.testing.assert_array_equal(sums[2], ((rows[:, None] != 0) & (rows[None] != 0)).sum(axis=2))
    likeness = weight_likeness(sums, 0, 2)
    assert likeness.cosine == pytest.approx(rows[0] @ rows[2] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[2]))
    assert likeness.norms == pytest.approx((np.linalg.norm(rows[0]), np.linalg.norm(rows[2])))
    assert likeness.distance == pytest.approx(np.linalg.norm(rows[0] - rows[2]))


def test_the_order_is_that_in_which_models_are_named(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", BASE)
    folders = [write_model(tmp_path / str(seed), changed(seed)) for seed in (1, 2, 3)]
    one, _ = compare_weights(base, folders, ThreadExecutor(1), scratch=tmp_path)
    other, _ = compare_weights(base, folders[::-1], ThreadExecutor(1), scratch=tmp_path)
    np.testing.assert_array_equal(total(one.values()), total(other.values())[:, ::-1, ::-1])


def test_the_base_itself_has_no_task_vector(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", BASE)
    sides, _ = compare_weights(
        base, [base, write_model(tmp_path / "one", changed(1))], ThreadExecutor(1), scratch=tmp_path
    )
    likeness = weight_likeness(total(sides.values()), 0, 1)
    assert (likeness.cosine, likeness.sign_agreement, likeness.norms[0]) == (None, None, 0.0)
    assert likeness.distance == likeness.norms[1] > 0


def test_opposite_task_vectors_have_nothing_in_common(tmp_path: Path) -> None:
    model = changed(1)
    back = {name: floats(2 * BASE[name].floats.astype(float) - model[name].floats) for name in FUSED}
    folders = [write_model(tmp_path / name, BASE | each) for name, each in {"one": model, "back": back}.items()]
    base = write_model(tmp_path / "base", BASE)
    sides, _ = compare_weights(base, folders, ThreadExecutor(1), scratch=tmp_path)
    likeness = weight_likeness(total(sides.values()), 0, 1)
    assert likeness.cosine == pytest.approx(-1.0, abs=1e-5)
    assert likeness.sign_agreement == 0.0


def test_models_of_other_shapes_and_broken_ones_are_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", BASE)
    small = write_model(tmp_path / "small", BASE | {"layer.weight": floats(np.ones((4, 8)))})
    with pytest.raises(SchemaMismatchError, match=r"layer\.weight"):
        compare_weights(base, [base, small], ThreadExecutor(1), scratch=tmp_path)
    broken = write_model(tmp_path / "broken", BASE | {"layer.weight": floats(np.full((8, 8), np.nan))})
    with pytest.raises(FusionError, match=r"layer\.weight"):
        compare_weights(base, [base, broken], ThreadExecutor(1), scratch=tmp_path)
