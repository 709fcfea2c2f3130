"""Consensus, MagMax, RAM, RAM+ and SCE against loops over elements."""

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import parse_recipe

TENSORS = {"a": 1, "b": 7, "c": 600}


def golden(seed, *, count=3, size=40, scale=1.0):
    """Deltas with zeros, ties, both zeros, subnormal numbers and opposite signs."""
    deltas = np.random.default_rng(seed).normal(size=(count, size)).round(1) * scale
    deltas[:, :1] = 0.0
    deltas[0, 1:2] = -0.0
    deltas[:, 2:3] = 5e-324
    deltas[:, 3:4] = np.resize([1.0, -1.0], (count, 1)) * scale
    return deltas


def sparse(seed, *, count=3, size=40, scale=1.0):
    return golden(seed, count=count, size=size, scale=scale) * (np.random.default_rng(seed).random((count, size)) < 0.3)


def fuse(line, deltas):
    return fuse_one(parse_recipe(line, METHODS), [np.array(delta) for delta in deltas])


def columns(deltas):
    return [[float(v) for v in column] for column in np.transpose(deltas)]


def naive_consensus(values, k, threshold):
    total = sum(values)
    need = sum(abs(v) > threshold * abs(total - v) for v in values)
    return total if need >= min(k, len(values)) else 0.0


@pytest.mark.parametrize(("k", "threshold"), [(1, 0.4), (2, 0.4), (2, 0.6), (3, 0.2), (9, 0.1), (2, 0.0)])
@examples(scale=SCALES, size=SIZES)
def test_consensus_keeps_what_enough_contributions_need(size, k, threshold, scale):
    deltas = golden(size, size=size, scale=scale)
    want = [naive_consensus(column, k, threshold) for column in columns(deltas)]
    got = fuse(f"consensus(k={k}, threshold={threshold}, scale=1)", deltas)
    np.testing.assert_allclose(got, want, rtol=1e-14, atol=0)


def test_consensus_scales_the_sum_and_takes_a_single_contribution():
    np.testing.assert_allclose(fuse("consensus", [[1.0, -2.0, 0.0]]), [0.3, -0.6, 0.0], rtol=1e-15)
    np.testing.assert_array_equal(fuse("consensus(scale=0.5)", [[1.0, 1.0], [3.0, -1.0]]), [0.0, 0.0])


@examples(scale=SCALES, size=SIZES)
def test_magmax_takes_the_largest_change_the_later_of_equals(size, scale):
    deltas = golden(size, count=5, size=size, scale=scale)
    want = []
    for column in columns(deltas):
        largest = max(abs(v) for v in column)
        want.append([v for v in column if abs(v) == largest][-1])
    np.testing.assert_array_equal(fuse("magmax(scale=1)", deltas), want)
    np.testing.assert_array_equal(fuse("magmax", deltas), 0.5 * np.array(want))


def test_magmax_takes_the_later_of_equals():
    np.testing.assert_array_equal(fuse("magmax(scale=1)", [[1.0, -2.0], [-1.0, 2.0]]), [-1.0, 2.0])


def naive_ram(values, gains, epsilon):
    active = [(v, gain) for v, gain in zip(values, gains, strict=True) if abs(v) > epsilon]
    if len(active) == 1:
        return active[0][0] * active[0][1]
    return sum(v for v, _ in active) / max(len(active), 1)


def naive_gains(deltas, epsilon, r=0.1, alpha=0.2):
    active = [[abs(v) > epsilon for v in column] for column in columns(deltas)]
    gains = []
    for i in range(len(deltas)):
        shared = sum(column[i] and sum(column) > 1 for column in active)
        lone = sum(column[i] and sum(column) == 1 for column in active)
        gains.append(1 + r * min(shared / max(lone, 1), alpha))
    return gains


@pytest.mark.parametrize(("scale", "epsilon"), [(1.0, 1e-5), (1.0, 0.5), (1e-5, 1e-5), (1e-42, 0.0)])
@examples(size=SIZES)
def test_ram_adds_lone_changes_and_averages_shared_ones(size, scale, epsilon):
    deltas = sparse(size, size=size, scale=scale)
    want = [naive_ram(column, [1.0] * 3, epsilon) for column in columns(deltas)]
    np.testing.assert_allclose(fuse(f"ram(epsilon={epsilon})", deltas), want, rtol=1e-14, atol=0)


@pytest.mark.parametrize("variant", ["paper", "mergekit"])
@pytest.mark.parametrize("alpha", [0.2, 1.5])
def test_ram_plus_makes_lone_changes_larger(variant, alpha):
    deltas = {name: sparse(i, size=size) for i, (name, size) in enumerate(TENSORS.items())}
    recipe = parse_recipe(f"ram-plus(variant={variant}, alpha={alpha})", METHODS)
    base = {name: np.zeros(size) for name, size in TENSORS.items()}
    fused = InMemory(recipe=recipe, base=base, deltas=[{n: d[i] for n, d in deltas.items()} for i in range(3)]).fuse()
    whole = np.hstack(list(deltas.values()))
    for name, own in deltas.items():
        gains = naive_gains(whole if variant == "paper" else own, 1e-5, alpha=alpha)
        want = [naive_ram(column, gains, 1e-5) for column in columns(own)]
        np.testing.assert_allclose(fused[name], want, rtol=1e-14, atol=0, err_msg=name)


def test_ram_plus_gains_depend_on_the_ratio_of_shared_to_lone_changes():
    deltas = [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(fuse("ram-plus(alpha=1)", deltas), [1.0, *[1 + 0.1 / 5] * 5], rtol=1e-15)


def naive_sce(deltas, top, mergekit=False):
    spread = [np.float32(np.sqrt(sum((v - sum(c) / len(c)) ** 2 for v in c) / len(c))) for c in columns(deltas)]
    count = int(top * sum(s > 0 for s in spread)) if top < 1 else len(spread)
    least = sorted(spread)[len(spread) - max(1, count)]
    kept = [
        [v if s >= least and not (mergekit and not count) else 0.0 for v in c]
        for c, s in zip(columns(deltas), spread, strict=True)
    ]
    squares = [sum(column[i] ** 2 for column in kept) for i in range(len(deltas))]
    weights = [square / (sum(squares) or 1.0) for square in squares]
    if mergekit and sum(squares) / len(spread) < 1e-6:
        weights = [1 / len(deltas)] * len(deltas)
    fused = []
    for column in kept:
        up = sum(column) >= 0
        agreeing = [(v, w) for v, w in zip(column, weights, strict=True) if v and w and (v > 0) == up]
        fused.append(sum(v * w for v, w in agreeing) / sum(w for _, w in agreeing) if agreeing else 0.0)
    return fused


@pytest.mark.parametrize("variant", ["paper", "mergekit"])
@examples(scale=SCALES, top=[1.0, 0.3, 0.01], size=SIZES)
def test_sce_selects_weighs_and_erases(size, top, scale, variant):
    deltas = golden(size, size=size, scale=scale) * [[1.0], [2.0], [0.5]]
    got = fuse(f"sce(select_topk={top}, variant={variant})", deltas)
    np.testing.assert_allclose(got, naive_sce(deltas, top, variant == "mergekit"), rtol=1e-12, atol=1e-320)


def test_sce_selects_among_the_elements_that_vary():
    deltas = [[9.0, 0.0, 0.0, 0.0, 1.0, 2.0], [9.0, 0.0, 0.0, 0.0, 3.0, 6.0]]
    got = fuse("sce(select_topk=0.5)", deltas)  # of two; of six it would be three, and all of them
    np.testing.assert_allclose(got, [0, 0, 0, 0, 0, (2 * 4 + 6 * 36) / 40], rtol=1e-15)


def test_sce_weighs_small_deltas_as_it_weighs_large_ones():
    deltas = golden(5, size=40)
    deltas[:, 2] = 0.0
    np.testing.assert_allclose(fuse("sce", deltas * 2.0**-20) * 2.0**20, fuse("sce", deltas), rtol=1e-15)


def test_sce_weighs_each_tensor_by_itself():
    deltas = [{"a": np.ones(2), "b": 3 * np.ones(2)}, {"a": 3 * np.ones(2), "b": np.ones(2)}]
    recipe = parse_recipe("sce", METHODS)
    fused = InMemory(recipe=recipe, base={"a": np.zeros(2), "b": np.zeros(2)}, deltas=deltas).fuse()
    np.testing.assert_allclose(fused["a"], [2.8, 2.8], rtol=1e-15)
    np.testing.assert_allclose(fused["b"], [2.8, 2.8], rtol=1e-15)
