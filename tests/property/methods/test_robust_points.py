"""Geometric median and centred clipping: the steps in the Gram matrix are those of explicit vectors."""

from __future__ import annotations

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.in_memory import fuse_one
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.robust.centred_clip import CentredClip
from coldfuse.fusion.robust.distances import distances_to, squared_distances
from coldfuse.fusion.robust.geometric_median import GeometricMedian


def make(count: int, num_elements: int, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(count * 1000 + num_elements)
    deltas = [scale * (1 + rng.normal(size=num_elements)) for _ in range(count)]
    deltas[0] = deltas[0] * 30
    return deltas


def fuse(method: Combiner, deltas: list[np.ndarray], weights: list[float] | None = None) -> np.ndarray:
    return fuse_one(Recipe(combiner=method), deltas, weights=weights)


def length(vector: np.ndarray) -> float:
    return float(sum(float(x) ** 2 for x in vector)) ** 0.5


def weiszfeld(method: GeometricMedian, deltas: list[np.ndarray], weights: list[float]) -> np.ndarray:
    alphas = [weight / sum(weights) for weight in weights]
    point = sum(alpha * delta for alpha, delta in zip(alphas, deltas, strict=True))
    objective = sum(alpha * length(point - delta) for alpha, delta in zip(alphas, deltas, strict=True))
    for _ in range(method.iterations):
        lengths = [length(point - delta) for delta in deltas]
        floor = method.smoothing * np.median(lengths)
        betas = [alpha / max(floor, far) for alpha, far in zip(alphas, lengths, strict=True)]
        point = sum(beta * delta for beta, delta in zip(betas, deltas, strict=True)) / sum(betas)
        before = objective
        objective = sum(alpha * length(point - delta) for alpha, delta in zip(alphas, deltas, strict=True))
        if abs(before - objective) < method.tolerance * objective:
            break
    return point


@pytest.mark.parametrize("method", [GeometricMedian(), GeometricMedian(iterations=20)], ids=repr)
@examples(scale=SCALES, num_elements=SIZES, count=[2, 3, 10])
def test_geometric_median_is_weiszfeld_on_vectors(
    method: GeometricMedian, count: int, num_elements: int, scale: float
) -> None:
    deltas, weights = make(count, num_elements, scale), [1.0 + i % 3 for i in range(count)]
    if count == 2:
        weights = [1.0, 1.0]  # every point between the two is a median; unequal weights end on one of them
    expected = weiszfeld(method, deltas, weights)
    error = length(fuse(method, deltas, weights) / scale - expected / scale)
    assert error <= 1e-10 * length(expected / scale)


def test_geometric_median_by_hand() -> None:
    """One step from (1, 1): β = 1/√2, 1/√2, 1/√10, 1/√2, for corners at (0,0), (2,0), (0,4), (2,0)."""
    deltas = [np.array(p) for p in ([0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 0.0])]
    near, far = 1 / 2**0.5, 1 / 10**0.5
    expected = np.array([4 * near, 4 * far]) / (3 * near + far)
    assert np.allclose(fuse(GeometricMedian(iterations=1), deltas), expected, rtol=1e-14)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_geometric_median_stays_with_the_cluster(scale: float) -> None:
    rng = np.random.default_rng(0)
    honest = [scale * (1 + 0.1 * rng.normal(size=50)) for _ in range(8)]
    hostile = [scale * 100 * rng.normal(size=50) for _ in range(2)]
    fused = fuse(GeometricMedian(iterations=50), [*honest[:3], hostile[0], *honest[3:], hostile[1]])
    assert length(fused - np.mean(honest, axis=0)) < 0.5 * scale
    assert length(np.mean([*honest, *hostile], axis=0) - np.mean(honest, axis=0)) > 50 * scale


@pytest.mark.parametrize("method", [GeometricMedian(), CentredClip(), CentredClip(radius=0.5)], ids=repr)
def test_scaling_the_deltas_by_a_power_of_two_scales_the_result(method: Combiner) -> None:
    deltas = make(6, 30)
    scaled = method.model_copy(update={"radius": 2.0**-21}) if getattr(method, "radius", None) else method
    small = fuse(scaled, [delta * 2.0**-20 for delta in deltas])
    assert np.array_equal(small, fuse(method, deltas) * 2.0**-20)


def test_a_contribution_of_weight_zero_does_not_count() -> None:
    deltas = make(5, 20)
    fused = fuse(GeometricMedian(), [*deltas, np.full(20, 1e6)], [1.0, 2.0, 1.0, 3.0, 1.0, 0.0])
    assert np.allclose(fused, fuse(GeometricMedian(), deltas, [1.0, 2.0, 1.0, 3.0, 1.0]), rtol=1e-12)


def test_weights_must_make_a_mean() -> None:
    with pytest.raises(FusionError, match="weights sum to 0"):
        fuse(GeometricMedian(), make(2, 3), [0.0, 0.0])


def centred_clip(method: CentredClip, deltas: list[np.ndarray]) -> np.ndarray:
    centre = np.zeros_like(deltas[0])
    for _ in range(method.iterations):
        lengths = [length(delta - centre) for delta in deltas]
        tau = method.radius if method.radius is not None else np.median(lengths)
        pulls = [
            (delta - centre) * (1.0 if far <= tau else tau / far) for delta, far in zip(deltas, lengths, strict=True)
        ]
        centre = centre + sum(pulls) / len(deltas)
    return centre


@pytest.mark.parametrize(("radius", "iterations"), [(None, 3), (None, 1), (2.0, 5)])
@examples(scale=SCALES, num_elements=SIZES, count=[1, 2, 3, 10])
def test_centred_clip_is_that_of_vectors(
    radius: float | None, iterations: int, count: int, num_elements: int, scale: float
) -> None:
    method = CentredClip(radius=None if radius is None else radius * scale, iterations=iterations)
    deltas = make(count, num_elements, scale)
    expected = centred_clip(method, deltas)
    error = length(fuse(method, deltas) / scale - expected / scale)
    assert error <= 1e-10 * length(expected / scale)


def test_centred_clip_by_hand() -> None:
    """From 0 with τ = 1: pulls of 1, -1 and 1 (instead of 5), a third of their sum."""
    deltas = [np.array([1.0]), np.array([-1.0]), np.array([5.0])]
    assert np.allclose(fuse(CentredClip(radius=1.0, iterations=1), deltas), [1 / 3], rtol=1e-15)


def test_centred_clip_with_a_wide_radius_is_the_mean() -> None:
    deltas = make(7, 20)
    assert np.array_equal(fuse(CentredClip(radius=1e9, iterations=1), deltas), fuse_one(Recipe(), deltas))


@pytest.mark.parametrize("method", [GeometricMedian(), CentredClip()], ids=repr)
@examples(count=[1, 2, 3, 7, 49])
def test_equal_deltas_come_back_bit_by_bit(method: Combiner, count: int) -> None:
    delta = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32).astype(np.float64)
    assert np.array_equal(fuse(method, [delta] * count), delta)


@pytest.mark.parametrize("method", [GeometricMedian(iterations=60, tolerance=0), CentredClip(iterations=60)], ids=repr)
def test_a_majority_of_equal_deltas_is_finite_and_wins(method: Combiner) -> None:
    same, other = np.array([1.0, -2.0]), np.array([1e6, 1e6])
    fused = fuse(method, [same, other, same, same])
    assert np.allclose(fused, same, rtol=1e-4)
    assert not fuse(method, [np.zeros(2)] * 3).any()


def test_distances_to_a_point_are_those_of_vectors_and_zero_among_equals() -> None:
    deltas_CN, shares_C = np.array(make(5, 20)), np.array([0.5, 0.3, -0.2, 0.4, 0.0])
    gram_CC = np.array([[sum(a * b) for b in deltas_CN] for a in deltas_CN])
    point_N = sum(share * delta for share, delta in zip(shares_C, deltas_CN, strict=True))
    expected = [length(point_N - delta_N) for delta_N in deltas_CN]
    assert np.allclose(distances_to(shares_C, squared_distances(gram_CC)), expected, rtol=1e-12)
    assert not distances_to(np.full(3, 1 / 3), squared_distances(np.full((3, 3), 0.7))).any()
