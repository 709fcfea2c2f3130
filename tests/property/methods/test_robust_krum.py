"""Krum and multi-Krum against distances between explicit vectors."""

from __future__ import annotations

import numpy as np
import pytest
from sampling import SCALES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.robust.krum import Krum, MultiKrum


def fuse(method: Combiner, deltas: list[np.ndarray]) -> np.ndarray:
    return fuse_one(Recipe(combiner=method), deltas)


def with_outliers(seed: int, num_elements: int, scale: float) -> list[np.ndarray]:
    """Ten deltas; those at 3 and 7 are noise that is ten times as large."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=num_elements)
    deltas = [scale * (direction + 0.3 * rng.normal(size=num_elements)) for _ in range(10)]
    for i in (3, 7):
        deltas[i] = scale * 10 * rng.normal(size=num_elements)
    return deltas


def naive_order(deltas: list[np.ndarray], f: int) -> list[int]:
    """The contributions from the smallest score to the largest."""
    scores = []
    for i, delta in enumerate(deltas):
        distances = sorted(sum((a - b) ** 2 for a, b in zip(delta, other, strict=True))
                           for j, other in enumerate(deltas) if j != i)  # fmt: skip
        scores.append(sum(distances[: len(deltas) - f - 2]))
    return sorted(range(len(deltas)), key=lambda i: scores[i])


@examples(scale=SCALES, num_elements=[2, 7, 64, 99, 100])
def test_krum_is_the_contribution_with_the_smallest_score(num_elements: int, scale: float) -> None:
    for seed in range(3):
        deltas = with_outliers(seed, num_elements, scale)
        for f in (0, 2, 3):
            assert np.array_equal(fuse(Krum(byzantine=f), deltas), deltas[naive_order(deltas, f)[0]])


@examples(scale=[1.0, 1e-06], selected=[1, 3, 7])
def test_multi_krum_averages_the_smallest_scores(selected: int, scale: float) -> None:
    deltas = with_outliers(5, 50, scale)
    chosen = [deltas[i] for i in naive_order(deltas, 3)[:selected]]
    fused = fuse(MultiKrum(byzantine=3, selected=selected), deltas)
    assert np.allclose(fused, np.mean(chosen, axis=0), rtol=1e-13, atol=1e-14 * scale)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_multi_krum_picks_the_cluster(scale: float) -> None:
    deltas = with_outliers(0, 64, scale)
    honest = [delta for i, delta in enumerate(deltas) if i not in (3, 7)]
    fused = fuse(MultiKrum(byzantine=2), deltas)
    assert np.allclose(fused, np.mean(honest, axis=0), rtol=1e-13, atol=1e-14 * scale)


def test_scores_are_of_the_whole_model() -> None:
    """In `a` alone the last is in the middle; `b` tells that it is not."""
    deltas = [{"a": np.array([v]), "b": np.array([w])} for v, w in [(0, 0), (1, 0), (3, 0.5), (1.1, 90), (1.2, 99)]]
    fusion = InMemory(recipe=Recipe(combiner=Krum(byzantine=1)), base=deltas[0], deltas=deltas)
    fused = fusion.fuse()
    assert (fused["a"].tolist(), fused["b"].tolist()) == ([1], [0])


def test_of_equal_scores_the_first_wins() -> None:
    square = [np.array(corner) for corner in ([1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0])]
    assert fuse(Krum(), square).tolist() == [1.0, 1.0]
    assert fuse(Krum(), square[::-1]).tolist() == [-1.0, 1.0]


def test_one_or_two_contributions_are_enough_if_none_is_hostile() -> None:
    first, second = np.array([1.0, 2.0]), np.array([3.0, -4.0])
    for method in (Krum(), MultiKrum()):
        assert fuse(method, [first]).tolist() == [1.0, 2.0]
    assert fuse(Krum(), [first, second]).tolist() == [1.0, 2.0]
    assert fuse(MultiKrum(), [first, second]).tolist() == [2.0, -1.0]


def test_multi_krum_that_fears_nobody_is_the_mean() -> None:
    deltas = with_outliers(1, 20, 1.0)
    assert np.array_equal(fuse(MultiKrum(), deltas), fuse_one(Recipe(), deltas))


@pytest.mark.parametrize("method", [Krum(byzantine=2), MultiKrum(byzantine=2)], ids=repr)
def test_says_how_many_contributions_are_needed(method: Combiner) -> None:
    with pytest.raises(FusionError, match="expected at least 7 contributions if 2 may be hostile, got 6"):
        fuse(method, [np.ones(3)] * 6)


def test_refuses_to_average_more_than_can_be_trusted() -> None:
    with pytest.raises(FusionError, match="expected at most 4"):
        fuse(MultiKrum(byzantine=1, selected=5), [np.ones(3)] * 5)
