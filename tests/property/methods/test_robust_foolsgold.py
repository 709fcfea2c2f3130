"""FoolsGold against its formula in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sampling import SCALES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.in_memory import fuse_one
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.robust.foolsgold import FoolsGold


def fuse(deltas: list[np.ndarray]) -> np.ndarray:
    return fuse_one(Recipe(combiner=FoolsGold()), deltas)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def naive_weights(deltas: list[np.ndarray]) -> list[float]:
    count = len(deltas)
    cs = [[0.0 if i == j else cosine(deltas[i], deltas[j]) for j in range(count)] for i in range(count)]
    largest = [max(row) for row in cs]
    for i in range(count):
        for j in range(count):
            if i != j and largest[i] < largest[j]:
                cs[i][j] = cs[i][j] * largest[i] / largest[j]
    weights = [min(1.0, max(0.0, 1 - max(row))) for row in cs]
    weights = [weight / max(weights) for weight in weights]
    weights = [0.99 if weight == 1 else weight for weight in weights]
    logits = [math.log(weight / (1 - weight)) + 0.5 if weight > 1e-12 else -math.inf for weight in weights]
    return [min(1.0, max(0.0, logit)) for logit in logits]


def make(seed: int, num_elements: int, scale: float = 1.0) -> list[np.ndarray]:
    """Four honest deltas, then two that are nearly the same, then a pair whose weights lie between 0 and 1."""
    rng = np.random.default_rng(seed)
    honest = [rng.normal(size=num_elements) for _ in range(4)]
    attack, theme = rng.normal(size=num_elements), rng.normal(size=num_elements)
    copies = [attack + 0.01 * rng.normal(size=num_elements) for _ in range(2)]
    alike = [theme + 0.75 * rng.normal(size=num_elements) for _ in range(2)]
    return [scale * delta for delta in (*honest, *copies, *alike)]


@examples(scale=SCALES, num_elements=[2, 7, 64, 99, 100])
def test_is_the_mean_by_the_papers_weights(num_elements: int, scale: float) -> None:
    for seed in range(5):
        deltas = make(seed, num_elements)
        weights = naive_weights(deltas)
        expected = sum(w * d for w, d in zip(weights, deltas, strict=True)) / sum(weights)
        assert np.allclose(fuse([scale * d for d in deltas]) / scale, expected, rtol=1e-5, atol=1e-6)


def test_some_weights_lie_between_zero_and_one() -> None:
    """Otherwise the test above would say nothing of the logit."""
    weights = [weight for seed in range(5) for weight in naive_weights(make(seed, 100))]
    assert any(0.05 < weight < 0.95 for weight in weights)


def test_copies_do_not_count() -> None:
    honest = [np.array([1.0, 0.0, 0.0, 0.2]), np.array([0.0, 1.0, 0.0, -0.2]), np.array([0.0, -0.5, 1.0, 0.0])]
    copy = np.array([3.0, 3.0, 3.0, -9.0])
    assert np.array_equal(fuse([*honest, copy, copy, 0.5 * copy]), np.sum(honest, axis=0) / 3)


def test_one_contribution_comes_back_and_zeros_stay_zero() -> None:
    assert fuse([np.array([0.3, -2.0])]).tolist() == [0.3, -2.0]
    assert fuse([np.zeros(1)]).tolist() == [0.0]
    assert fuse([np.zeros(4)] * 3).tolist() == [0.0] * 4


def test_deltas_that_have_nothing_in_common_are_averaged() -> None:
    assert fuse([np.array([1.0, 0.0]), np.array([0.0, 1.0])]).tolist() == [0.5, 0.5]
    assert fuse([np.array([1.0]), np.array([-1.0])]).tolist() == [0.0]


@examples(others=[[], [np.zeros(3)]], scale=SCALES)
def test_says_so_where_all_are_copies_of_one(scale: float, others: list[np.ndarray]) -> None:
    delta = np.array([1.0, -0.3, 0.7]) * scale
    with pytest.raises(FusionError, match="all 3 contributions that changed the model look like copies"):
        fuse([delta, delta, *others, 1.7 * delta])
