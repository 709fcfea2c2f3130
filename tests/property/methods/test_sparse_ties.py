"""TIES and trimming against loops that read like the authors' code and mergekit's."""

import numpy as np
import pytest
from sampling import SCALES, examples

from coldfuse.fusion.block import Block, TensorInfo
from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import parse_recipe
from coldfuse.fusion.sparse.ties import Ties

TENSORS = {"a": 1, "b": 2, "c": 7, "d": 64, "e": 99, "f": 100}


def golden(seed, *, count=3, size=40, scale=1.0):
    """Deltas with zeros, ties, both zeros, subnormal numbers and opposite signs."""
    deltas = np.random.default_rng(seed).normal(size=(count, size)).round(1) * scale
    deltas[:, :1] = 0.0
    deltas[0, 1:2] = -0.0
    deltas[:, 2:3] = 5e-324
    deltas[:, 3:4] = np.resize([1.0, -1.0], (count, 1)) * scale
    return deltas


def model(seed, scale=1.0):
    return [
        {name: golden(seed + i, count=3, size=size, scale=scale)[i] for name, size in TENSORS.items()} for i in range(3)
    ]


def fuse(line, deltas, weights=None):
    base = {name: np.zeros(size) for name, size in TENSORS.items()}
    return InMemory(recipe=parse_recipe(line, METHODS), base=base, deltas=deltas, weights=weights).fuse()


def threshold(values, place):
    return sorted(np.float32(abs(v)) for v in values)[place]


def keep(values, least):
    return [float(v) if np.float32(abs(v)) >= least else 0.0 for v in values]


def trim_paper(delta, density):
    everything = [v for name in TENSORS for v in delta[name]]
    k = len(everything) - int(len(everything) * density)
    least = threshold(everything, k - 1)
    return {name: keep(delta[name], least) for name in TENSORS}


def trim_mergekit(delta, density):
    return {
        n: keep(delta[n], threshold(delta[n], len(delta[n]) - max(1, int(density * len(delta[n]))))) for n in TENSORS
    }


def naive_element(values, weights, zero_is):
    total = 0.0
    for value, weight in zip(values, weights, strict=True):
        total += value * weight
    if total == 0:
        total = zero_is if zero_is is not None else sum((v > 0) - (v < 0) for v in values)
    if total == 0:
        return 0.0
    agreeing = [(v, w) for v, w in zip(values, weights, strict=True) if v * w and (v * w > 0) == (total > 0)]
    return sum(v * w for v, w in agreeing) / (sum(w for _, w in agreeing) or 1.0)


def naive_merge(trimmed, weights=(1.0, 1.0, 1.0), zero_is=None):
    return {
        name: np.array([naive_element([t[name][n] for t in trimmed], weights, zero_is) for n in range(size)])
        for name, size in TENSORS.items()
    }


def assert_same(got, want):
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)


@examples(scale=SCALES, density=[0.05, 0.2, 0.7], seed=range(3))
def test_ties_is_the_authors_whole_model_trim_and_vote(seed, density, scale):
    deltas = model(seed, scale)
    want = naive_merge([trim_paper(delta, density) for delta in deltas])
    assert_same(fuse(f"ties(density={density})", deltas), want)


@examples(scale=[1.0, 1e-06], density=[0.05, 0.2, 0.7, 1.0], seed=range(3))
def test_ties_in_mergekits_variant_trims_tensors_and_weighs(seed, density, scale):
    deltas, weights = model(seed, scale), (0.5, 2.0, 1.25)
    trimmed = [trim_mergekit(delta, density) for delta in deltas]
    got = fuse(f"ties(density={density}, variant=mergekit)", deltas, weights)
    assert_same(got, naive_merge(trimmed, weights, zero_is=1))


def test_ties_in_mergekits_variant_divides_by_one_where_the_weights_cancel():
    got = fuse_one(
        parse_recipe("ties(density=1, variant=mergekit)", METHODS), [np.ones(2), -np.ones(2)], weights=[1, -1]
    )
    np.testing.assert_array_equal(got, [2.0, 2.0])


def test_a_zero_vote_goes_to_the_side_of_more_contributions():
    deltas = [np.array([2.0, -2.0, 1.0]), np.array([-1.0, 1.0, -1.0]), np.array([-1.0, 1.0, 0.0])]
    np.testing.assert_array_equal(fuse_one(parse_recipe("ties(density=1)", METHODS), deltas), [-1.0, 1.0, 0.0])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_zero_vote_goes_to_the_models_majority_where_that_is_asked_for(sign):
    deltas = [sign * np.array([2.0, 3.0, 1.0, -9.0]), sign * np.array([1.0, 1.0, -1.0, 0.0])]
    got = fuse_one(parse_recipe("ties(density=1, zero_votes=model)", METHODS), deltas)
    np.testing.assert_array_equal(got, sign * np.array([1.5, 2.0, 1.0, -9.0]))


@examples(size=[1, 2, 7, 64, 99, 100, 511, 512, 513, 1100])
def test_ties_with_all_entries_of_one_sign_is_the_mean(size):
    deltas = [np.abs(row) + 0.1 for row in golden(size, count=5, size=size)]
    got = fuse_one(parse_recipe("ties(density=1)", METHODS), deltas)
    np.testing.assert_array_equal(got, fuse_one(parse_recipe("mean", METHODS), deltas))


def test_what_all_agree_on_is_never_erased():
    delta = golden(0)[0]
    for line in ("ties", "ties(density=0.2, variant=mergekit)", "ties(merge=sum)"):
        assert fuse_one(parse_recipe(line, METHODS), [delta] * 3).any()


def test_ties_can_add_what_agrees_and_scale_it():
    deltas = [np.array([1.0, 4.0]), np.array([2.0, -1.0]), np.array([-1.0, 2.0])]
    got = fuse_one(parse_recipe("ties(density=1, merge=sum, scale=0.5)", METHODS), deltas)
    np.testing.assert_array_equal(got, [1.5, 3.0])


def test_nothing_is_measured_where_nothing_is_trimmed():
    assert Ties(density=1).measures() == ()
    assert Ties(density=1, variant="mergekit").measures() == ()
    assert [measure.per for measure in (*Ties().measures(), *Ties(density=0.2, variant="mergekit").measures())] == [
        "model",
        "tensor",
    ]


def test_weights_count_in_mergekits_variant_alone():
    assert (Ties().is_weighted, Ties(density=0.2, variant="mergekit").is_weighted) == (False, True)
    deltas, recipe = [np.ones(3), -2 * np.ones(3)], parse_recipe("ties(density=1)", METHODS)
    np.testing.assert_array_equal(fuse_one(recipe, deltas, weights=[9, 1]), [-2.0, -2.0, -2.0])


def test_entries_are_compared_as_float32():
    just_below = 1.0 - 2.0**-40  # 1 as float32
    info = TensorInfo(
        tensor="w", shape=(2,), weights_C=np.ones(1), present_C=np.ones(1, bool), keys_C=np.zeros(1, np.uint64),
        num_elements=2, measured={"thresholds": np.ones((1, 1))},
    )  # fmt: skip
    block = Block(info=info, first=0, base_N=np.zeros(2), deltas_CN=np.array([[just_below, 0.999]]))
    np.testing.assert_array_equal(Ties().fuse(block), [just_below, 0.0])


@pytest.mark.parametrize("variant", ["paper", "mergekit"])
@examples(density=[0.05, 0.2, 1.0])
def test_trim_is_the_first_step_of_ties(variant, density):
    deltas = model(7)
    naive = trim_paper if variant == "paper" else trim_mergekit
    trimmed = deltas if density == 1 else [naive(delta, density) for delta in deltas]
    want = {name: sum(np.array(t[name]) for t in trimmed) / 3 for name in TENSORS}
    assert_same(fuse(f"trim(density={density}, variant={variant}) then mean", deltas), want)


@pytest.mark.parametrize("variant", ["paper", "mergekit"])
def test_trim_then_ties_without_trimming_is_ties(variant):
    deltas = model(8)
    in_two_steps = fuse(f"trim(variant={variant}) then ties(density=1, variant={variant})", deltas)
    assert_same(in_two_steps, fuse(f"ties(variant={variant})", deltas))
