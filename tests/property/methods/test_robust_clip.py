"""Norm clipping: what is too long is shortened, and what is not keeps every bit."""

from __future__ import annotations

import numpy as np
from sampling import SCALES, SIZES, examples

from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.robust.clip import Clip


def clip_then_mean(clip: Clip, deltas: list[np.ndarray]) -> np.ndarray:
    return fuse_one(Recipe(transforms=(clip,)), deltas)


def test_by_hand() -> None:
    """Norms 5, 1, 10: the median 5 halves the last, and 2 brings the first and the last to length 2."""
    deltas = [np.array([3.0, 4.0]), np.array([0.0, 1.0]), np.array([-6.0, 8.0])]
    assert clip_then_mean(Clip(), deltas).tolist() == [0.0, 3.0]
    assert np.allclose(clip_then_mean(Clip(norm=2.0), deltas), [0.0, (1.6 + 1 + 1.6) / 3], rtol=1e-15)


def test_the_norm_is_that_of_the_whole_model() -> None:
    deltas = [{"a": np.array([3.0]), "b": np.array([[4.0]])}, {"a": np.array([0.5]), "b": np.array([[0.0]])}]
    fused = InMemory(recipe=Recipe(transforms=(Clip(norm=2.5),)), base=deltas[0], deltas=deltas).fuse()
    assert (fused["a"].tolist(), fused["b"].tolist()) == ([(1.5 + 0.5) / 2], [[2.0 / 2]])


@examples(scale=SCALES, num_elements=SIZES)
def test_no_contribution_is_longer_than_the_median(num_elements: int, scale: float) -> None:
    rng = np.random.default_rng(num_elements)
    deltas = [rng.normal(size=num_elements) * size * scale for size in (1, 2, 3, 4, 1000)]
    norms = [sum(float(x / scale) ** 2 for x in delta) ** 0.5 for delta in deltas]
    limit = sorted(norms)[2]
    expected = sum(d * min(1.0, limit / norm) for d, norm in zip(deltas, norms, strict=True)) / 5
    assert np.allclose(clip_then_mean(Clip(), deltas) / scale, expected / scale, rtol=1e-12)


def test_short_deltas_keep_every_bit() -> None:
    deltas = [np.array([0.1, -0.0]), np.array([0.3, 1e-42])]
    assert np.array_equal(clip_then_mean(Clip(norm=1.0), deltas), fuse_one(Recipe(), deltas))


def test_zero_deltas_and_one_contribution_are_left_alone() -> None:
    assert clip_then_mean(Clip(), [np.zeros(3)] * 2).tolist() == [0.0, 0.0, 0.0]
    assert clip_then_mean(Clip(), [np.array([7.7])]).tolist() == [7.7]
