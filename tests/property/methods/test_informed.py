"""Fisher- and precision-weighted averages against loops that read like the papers."""

import math

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.informed.fisher import Fisher
from coldfuse.fusion.informed.precision import Precision
from coldfuse.fusion.recipe import Recipe

METHODS = [Fisher(), Fisher(normalise=False), Precision(), Precision(normalise=True)]


def make(size, *, count=3, seed=0, scale=1.0):
    """Deltas, and positive statistics spread over many orders of magnitude."""
    rng = np.random.default_rng(seed)
    deltas = [(scale * rng.normal(size=size)).astype(np.float32) for _ in range(count)]
    statistics = [np.exp(4 * rng.normal(size=size)).astype(np.float32) for _ in range(count)]
    return deltas, statistics


def fuse(method, deltas, statistics, weights=None):
    return fuse_one(Recipe(combiner=method), deltas, statistics=statistics, weights=weights)


def norm(values):
    return math.sqrt(sum(float(value) ** 2 for value in values))


def weighted(deltas, known, n, weights):
    """Σ known δ / Σ known at element n; the weighted mean where nobody knows anything."""
    if not sum(known) > 0:
        known = weights
    return sum(k * float(delta[n]) for k, delta in zip(known, deltas, strict=True)) / sum(known)


def naive_fisher(deltas, fishers, weights, floor, *, normalise=True):
    norms, root = [norm(fisher) for fisher in fishers], math.sqrt(len(deltas[0]))
    out = []
    for n in range(len(deltas[0])):
        known = []
        for fisher, weight, length in zip(fishers, weights, norms, strict=True):
            if normalise:
                known.append(weight * max(float(fisher[n]), floor * length / root) / length)
            else:
                known.append(weight * max(float(fisher[n]), floor * max(norms) / root))
        out.append(weighted(deltas, known, n, weights))
    return np.array(out)


def naive_precision(deltas, variances, weights, floor):
    size, out = len(deltas[0]), []
    least = floor * max(norm(variance) for variance in variances) / math.sqrt(size)
    for n in range(size):
        spreads = [float(variance[n]) for variance in variances]
        known = [w / max(s, least) if s > 0 else 0.0 for w, s in zip(weights, spreads, strict=True)]
        out.append(weighted(deltas, known, n, weights))
    return np.array(out)


@examples(size=SIZES, scale=SCALES, floor=[0.0, 1e-06, 0.3])
def test_fisher_is_the_formula(size, scale, floor):
    deltas, fishers = make(size, scale=scale)
    fused = fuse(Fisher(floor=floor), deltas, fishers, [1.0, 2.0, 0.5])
    np.testing.assert_allclose(fused, naive_fisher(deltas, fishers, [1.0, 2.0, 0.5], floor), rtol=1e-11, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_fisher_as_it_is_favours_who_knows_more(size):
    deltas, fishers = make(size)
    fishers[1] *= 100
    fused = fuse(Fisher(normalise=False, floor=0.01), deltas, fishers)
    np.testing.assert_allclose(fused, naive_fisher(deltas, fishers, [1, 1, 1], 0.01, normalise=False), rtol=1e-11)


def test_the_absolute_and_the_added_floor_act_on_fisher_as_it_is():
    deltas, fishers = make(64)
    for rule, change in (
        ("absolute", lambda f: np.maximum(f.astype(float), 0.5)),
        ("added", lambda f: f.astype(float) + 0.5),
    ):
        fused = fuse(Fisher(floor=0.5, floor_rule=rule), deltas, fishers)
        known = [change(fisher) / norm(fisher) for fisher in fishers]
        expected = [weighted(deltas, [k[n] for k in known], n, [1, 1, 1]) for n in range(64)]
        np.testing.assert_allclose(fused, expected, rtol=1e-11)


@examples(size=SIZES, scale=SCALES, floor=[1e-12, 0.01, 1.0])
def test_precision_is_the_formula(size, scale, floor):
    deltas, variances = make(size, scale=scale, seed=1)
    variances[0][::3] = 0
    fused = fuse(Precision(floor=floor), deltas, variances, [1.0, 2.0, 0.5])
    np.testing.assert_allclose(fused, naive_precision(deltas, variances, [1.0, 2.0, 0.5], floor), rtol=1e-11, atol=0)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@examples(size=SIZES)
def test_equal_statistics_give_the_weighted_mean(method, size):
    deltas, (statistic, *_) = make(size)
    statistic[::4] = 0  # what nobody knows
    fused = fuse(method, deltas, [statistic] * 3, [3.0, 1.0, 2.0])
    mean = sum(w * d.astype(float) for w, d in zip([3.0, 1.0, 2.0], deltas, strict=True)) / 6
    np.testing.assert_allclose(fused, mean, rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", [Fisher(floor=0), *METHODS], ids=repr)
def test_where_nobody_knows_anything_the_mean_is_taken(method):
    deltas, statistics = make(7)
    for statistic in statistics:
        statistic[2:5] = 0
    fused = fuse(method, deltas, statistics, [3.0, 1.0, 2.0])
    mean = sum(w * d.astype(float) for w, d in zip([3.0, 1.0, 2.0], deltas, strict=True)) / 6
    assert np.isclose(fused, mean, rtol=0, atol=1e-14).tolist() == [False, False, True, True, True, False, False]
    np.testing.assert_allclose(fuse(method, deltas, [np.zeros(7)] * 3, [3, 1, 2]), mean, rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_unit_of_the_statistics_does_not_matter(method):
    deltas, statistics = make(99)
    small = [statistic.astype(float) * 1e-12 for statistic in statistics]
    np.testing.assert_allclose(fuse(method, deltas, small), fuse(method, deltas, statistics), rtol=1e-11)


@pytest.mark.parametrize("method", [Fisher(), Precision(normalise=True)], ids=repr)
def test_normalised_each_contribution_may_have_its_own_unit(method):
    deltas, statistics = make(99)
    units = [statistic.astype(float) * unit for statistic, unit in zip(statistics, (1e-9, 1.0, 1e6), strict=True)]
    np.testing.assert_allclose(fuse(method, deltas, units), fuse(method, deltas, statistics), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_tensor_without_statistics_gets_the_mean_and_the_norm_is_of_the_whole_model(method):
    (one, two), (known_one, known_two) = make(8, count=2)
    base = {"a": np.zeros(4), "b": np.zeros(3), "bare": np.zeros(1)}
    cut = {"a": slice(0, 4), "b": slice(4, 7), "bare": slice(7, 8)}

    def parts(values, names):
        return {name: values[cut[name]] for name in names}

    fused = InMemory(
        recipe=Recipe(combiner=method),
        base=base,
        deltas=[parts(one, base), parts(two, base)],
        statistics=[parts(known_one, "ab"), parts(known_two, "ab")],
    ).fuse()
    known_one[7] = known_two[7] = 0
    whole = fuse(method, [one, two], [known_one, known_two])
    np.testing.assert_allclose(np.concatenate([fused["a"], fused["b"]]), whole[:7], rtol=1e-12)
    assert fused["bare"] == (float(one[7]) + float(two[7])) / 2


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_who_has_no_statistics_counts_as_one_whose_data_say_the_same_of_everything(method):
    deltas, statistics = make(8)
    base = {"a": np.zeros(4), "b": np.zeros(4)}

    def parts(values):
        return {"a": values[:4], "b": values[4:]}

    flat = np.full(8, math.sqrt(np.mean([norm(known) ** 2 for known in statistics[:2]]) / 8))
    known = [parts(statistics[0]), parts(statistics[1]), {}]
    fused = InMemory(
        recipe=Recipe(combiner=method), base=base, deltas=[parts(delta) for delta in deltas], statistics=known
    ).fuse()
    expected = fuse(method, deltas, [*statistics[:2], flat])
    np.testing.assert_allclose(np.concatenate([fused["a"], fused["b"]]), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_weight_zero_equals_absence(method):
    deltas, statistics = make(64)
    statistics[2] = statistics[0]  # the common floors stay
    fused = fuse(method, deltas, statistics, [1.0, 2.0, 0.0])
    np.testing.assert_allclose(fused, fuse(method, deltas[:2], statistics[:2], [1.0, 2.0]), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_one_contribution_comes_back(method):
    deltas, statistics = make(7, count=1)
    np.testing.assert_allclose(fuse(method, deltas, statistics), deltas[0], rtol=1e-15)


@pytest.mark.parametrize("method", [Fisher(floor=0), Fisher(floor_rule="added"), *METHODS], ids=repr)
def test_extreme_statistics_stay_finite(method):
    deltas = [np.array([3e38, -1e-45, 0.0, -0.0], np.float32), np.array([-3e38, 1.0, 1e-6, 0.0], np.float32)]
    statistics = [np.array([3e38, 1e-45, 0, 0], np.float32), np.array([1e-45, 3e38, 1e-45, 0], np.float32)]
    assert np.isfinite(fuse(method, deltas, statistics)).all()
    assert not fuse(method, [np.zeros(4)] * 2, statistics).any()


def test_a_weight_that_never_moved_says_nothing():
    deltas = [np.array([0.0, 1.0]), np.array([0.5, 3.0])]
    assert fuse(Precision(), deltas, [np.array([0.0, 1.0]), np.array([1.0, 1.0])]).tolist() == [0.5, 2.0]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_weights_that_make_no_mean_are_refused(method):
    deltas, statistics = make(2)
    with pytest.raises(FusionError, match="weights sum to 0"):
        fuse(method, deltas, statistics, [0.0, 0.0, 0.0])
