"""PCB-Merging against sorted lists, and its exp and tanh against the library's."""

import math

import numpy as np
import pytest
from sampling import SCALES, examples

from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import parse_recipe
from coldfuse.fusion.sparse.elementary import exp, tanh

TENSORS = {"a": 1, "b": 2, "c": 7, "d": 64, "e": 99, "f": 100}


def golden(seed, *, count=3, size=40, scale=1.0):
    deltas = np.random.default_rng(seed).normal(size=(count, size)).round(1) * scale
    deltas[:, :1] = 0.0
    deltas[0, 1:2] = -0.0
    deltas[:, 3:4] = np.resize([1.0, -1.0], (count, 1)) * scale
    return deltas


def clamp(values, low_share, high_share):
    ranked = sorted(values)
    low = ranked[min(int(len(values) * low_share), len(values) - 1)]
    high = ranked[int(len(values) * (1 - high_share) - 1)]
    return [min(max(v, low), high) for v in values]


def minmax(values, flat):
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else flat for v in values]


def naive_pcb(deltas, ratio):
    sums = [sum(column) for column in np.transpose(deltas)]
    scales, clamped = [], []
    for delta in deltas:
        sizes = clamp([abs(v) for v in delta], 1e-4, 1e-4)
        own = [math.exp(len(deltas) * (x * x - 0.5)) for x in minmax(sizes, 0.0)]
        scores = [float(np.float32(e * math.tanh(v * s))) for e, v, s in zip(own, delta, sums, strict=True)]
        scales.append(minmax(clamp(scores, 1 - ratio, 0), 1.0))
        clamped.append([math.copysign(a, v) if v else 0.0 for a, v in zip(sizes, delta, strict=True)])
    return [
        sum(s[n] * c[n] for s, c in zip(scales, clamped, strict=True)) / max(sum(s[n] for s in scales), 1e-12)
        for n in range(len(sums))
    ]


@examples(scale=[1.0, 1e-06, 1e-15], ratio=[0.1, 0.5, 1.0], size=[1, 2, 7, 40, 64, 99, 100])
def test_pcb_is_the_authors_formula(size, ratio, scale):
    deltas = golden(size, size=size, scale=scale)
    got = fuse_one(parse_recipe(f"pcb(ratio={ratio})", METHODS), list(deltas))
    np.testing.assert_allclose(got, naive_pcb(deltas, ratio), rtol=2e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("seed", range(3))
def test_pcb_ranks_over_the_whole_model(seed):
    deltas = [{name: golden(seed, size=size)[i] for name, size in TENSORS.items()} for i in range(3)]
    base = {name: np.zeros(size) for name, size in TENSORS.items()}
    fused = InMemory(recipe=parse_recipe("pcb(scale=1.2)", METHODS), base=base, deltas=deltas).fuse()
    want = naive_pcb([np.hstack(list(delta.values())) for delta in deltas], 0.1)
    np.testing.assert_allclose(np.hstack(list(fused.values())), 1.2 * np.array(want), rtol=2e-5, atol=1e-6)


def test_pcb_takes_a_negative_quantile_where_most_contributions_disagree():
    deltas = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [-2.0, -3.0, -4.0, -5.0, -6.0]])  # every score of the first is < 0
    got = fuse_one(parse_recipe("pcb(ratio=0.6)", METHODS), list(deltas))
    np.testing.assert_allclose(got, naive_pcb(deltas, 0.6), rtol=2e-5, atol=1e-9)
    assert got.any()


@examples(count=[1, 2, 64, 100, 300], scale=SCALES)
def test_pcb_stays_finite(count, scale):
    deltas = np.random.default_rng(0).normal(size=(count, 50)) * scale
    fused = fuse_one(parse_recipe("pcb", METHODS), list(deltas))
    assert np.isfinite(fused).all()
    assert fused.any()
    assert np.abs(fused).max() <= np.abs(deltas).max() * (1 + 1e-6)


def test_equal_sizes_come_back():
    delta = 0.1 * np.array([1.0, -1.0, 1.0, 1.0])
    np.testing.assert_array_equal(fuse_one(parse_recipe("pcb", METHODS), [delta, delta]), delta)


def test_exp_and_tanh_are_right_to_a_few_units_of_the_last_place():
    numbers = np.random.default_rng(0).normal(size=300)
    for x in [*(numbers * 100), *numbers, *(numbers * 1e-9), 0.0, 600.0, -600.0]:
        assert exp(x) == pytest.approx(math.exp(x), rel=1e-15)
        assert tanh(x) == pytest.approx(math.tanh(x), rel=1e-15)
