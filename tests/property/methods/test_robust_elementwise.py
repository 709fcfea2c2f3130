"""Median, trimmed mean and Bulyan against loops over single elements."""

from __future__ import annotations

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.in_memory import fuse_one
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.robust.bulyan import Bulyan
from coldfuse.fusion.robust.median import Median
from coldfuse.fusion.robust.trimmed_mean import TrimmedMean


def make(count: int, num_elements: int, scale: float = 1.0) -> list[np.ndarray]:
    """Deltas as float32 has them, with ties and zeros of both signs."""
    values = np.random.default_rng(count * 1000 + num_elements).normal(size=(count, num_elements)).round(1)
    return list((values * scale).astype(np.float32).astype(np.float64))


def fuse(method: Combiner, deltas: list[np.ndarray]) -> np.ndarray:
    return fuse_one(Recipe(combiner=method), deltas)


@examples(scale=SCALES, num_elements=SIZES, count=[1, 2, 3, 8, 9])
def test_median_is_that_of_numpy(count: int, num_elements: int, scale: float) -> None:
    deltas = make(count, num_elements, scale)
    assert np.array_equal(fuse(Median(), deltas), np.median(deltas, axis=0))


@pytest.mark.parametrize(("count", "trim", "cut"), [(1, 0.2, 0), (4, 0.2, 0), (5, 0.2, 1), (11, 0.3, 3), (6, 0.49, 2)])
@examples(scale=SCALES, num_elements=SIZES)
def test_trimmed_mean_leaves_the_extremes_out(
    count: int, trim: float, cut: int, num_elements: int, scale: float
) -> None:
    deltas = make(count, num_elements, scale)
    kept = [sorted(column)[cut : count - cut] for column in zip(*deltas, strict=True)]
    assert fuse(TrimmedMean(trim=trim), deltas).tolist() == [sum(values) / len(values) for values in kept]


def test_trimmed_mean_always_leaves_a_value() -> None:
    almost_half = TrimmedMean(trim=np.nextafter(0.5, 0.0))
    for count in range(1, 40):
        assert fuse(almost_half, [np.array([float(i)]) for i in range(count)])[0] == (count - 1) / 2


@pytest.mark.parametrize("method", [Median(), TrimmedMean(), TrimmedMean(trim=0.4), Bulyan()], ids=repr)
def test_order_of_contributions_does_not_change_a_bit(method: Combiner) -> None:
    deltas = [*make(9, 100, 1e-3), np.full(100, -0.0), np.zeros(100)]
    fused = fuse(method, deltas)
    for seed in range(5):
        shuffled = [deltas[i] for i in np.random.default_rng(seed).permutation(len(deltas))]
        assert fuse(method, shuffled).tobytes() == fused.tobytes()


@pytest.mark.parametrize("method", [Median(), TrimmedMean(trim=0.2), Bulyan(byzantine=2)], ids=repr)
def test_two_of_eleven_contributions_cannot_leave_the_range_of_the_others(method: Combiner) -> None:
    honest = make(9, 50)
    fused = fuse(method, [*honest[:4], np.full(50, 1e9), *honest[4:], np.full(50, -1e12)])
    assert (np.min(honest, axis=0) <= fused).all()
    assert (fused <= np.max(honest, axis=0)).all()


def naive_bulyan(deltas: list[np.ndarray], f: int) -> list[float]:
    """Score, choose, then for each element order by distance from the median; of equal distances the smaller first."""
    count = len(deltas)
    scores = []
    for i in range(count):
        others = sorted(float(((deltas[i] - deltas[j]) ** 2).sum()) for j in range(count) if j != i)
        scores.append(sum(others[: count - f - 2]))
    chosen = sorted(range(count), key=lambda i: scores[i])[: count - 2 * f]
    fused = []
    for n in range(len(deltas[0])):
        values = sorted(float(deltas[i][n]) for i in chosen)
        middle = float(np.median(values))
        closest = sorted(values, key=lambda v: (abs(v - middle), v))[: count - 4 * f]
        fused.append(sum(sorted(closest)) / len(closest))
    return fused


@pytest.mark.parametrize(("count", "f"), [(7, 1), (8, 1), (11, 2), (12, 2), (16, 3)])
@examples(scale=[1.0, 1e-06], num_elements=[2, 7, 64, 99, 100])
def test_bulyan_is_the_mean_around_the_median_of_the_chosen(
    count: int, f: int, num_elements: int, scale: float
) -> None:
    deltas = list(np.random.default_rng(count).normal(size=(count, num_elements)) * scale)
    assert np.allclose(fuse(Bulyan(byzantine=f), deltas), naive_bulyan(deltas, f), rtol=1e-12, atol=0)


def test_bulyan_by_hand() -> None:
    """Krum leaves 100 and 50 out of seven; of 0, 1, 2, 4, 9 the three around 2 are 0, 1 and 2 (4 is as far as 0)."""
    deltas = [np.array([value]) for value in (4.0, 100.0, 0.0, 9.0, 2.0, 1.0, 50.0)]
    assert fuse(Bulyan(byzantine=1), deltas).tolist() == [1.0]


def test_bulyan_that_fears_nobody_is_the_mean() -> None:
    for count in (1, 2, 3, 6):
        deltas = make(count, 7)
        assert np.allclose(fuse(Bulyan(), deltas), np.mean(deltas, axis=0), rtol=1e-12, atol=1e-16)


def test_bulyan_says_how_many_contributions_it_needs() -> None:
    with pytest.raises(FusionError, match="expected at least 7 contributions if 1 may be hostile, got 6"):
        fuse(Bulyan(byzantine=1), make(6, 3))


@pytest.mark.parametrize("method", [Median(), TrimmedMean(), Bulyan()], ids=repr)
def test_equal_deltas_come_back_and_shapes_are_kept(method: Combiner) -> None:
    delta = np.array([[1e-42, -3.0, 0.0], [7.25, 1e-6, 2.0]], np.float32)
    for count in (1, 2, 3, 7):
        assert np.array_equal(fuse(method, [delta] * count), delta.astype(np.float64))
