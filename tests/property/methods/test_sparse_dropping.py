"""DARE and DELLA, whose masks come from a counter, against loops over elements."""

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Block, TensorInfo
from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.random import key, uniform
from coldfuse.fusion.recipe import format_recipe, parse_recipe
from coldfuse.fusion.sparse import rescaling
from coldfuse.fusion.sparse.dare import Dare
from coldfuse.fusion.sparse.della import Della


def golden(seed, shape, scale=1.0):
    delta = np.random.default_rng(seed).normal(size=shape).round(1) * scale
    delta.flat[: min(3, delta.size)] = [0.0, -0.0, 5e-324][: delta.size]
    return delta


def random_numbers(contribution, size, seed="s"):
    return uniform(key(seed, str(contribution), "w"), 0, size)


def after(line, delta, seed="s"):
    """The delta of contribution 0 after a transform: a mean of one."""
    return fuse_one(parse_recipe(f"{line} then mean", METHODS), [delta], seed=seed)


def norm_ratio(delta, masked):
    before, kept = (float(sum(abs(v) for v in values)) for values in (delta, masked))
    return before / kept if kept > 0 and before / kept < np.inf else 1.0


def naive_keep(row, density, epsilon):
    order = sorted(range(len(row)), key=lambda n: (np.float32(abs(row[n])), n))
    if len(row) == 1:
        return [density]
    return [(density - epsilon) + 2 * epsilon * order.index(n) / (len(row) - 1) for n in range(len(row))]


@examples(scale=SCALES, drop=[0.0, 0.1, 0.5, 0.9], size=SIZES)
def test_dare_drops_what_the_counter_says_and_rescales(size, drop, scale):
    delta = golden(size, size, scale)
    want = [v / (1 - drop) if u >= drop else 0.0 for v, u in zip(delta, random_numbers(0, size), strict=True)]
    np.testing.assert_allclose(after(f"dare(drop={drop})", delta), want, rtol=1e-15, atol=0)


@examples(scale=[1.0, 1e-09], size=SIZES)
def test_dare_in_mergekits_variant_keeps_the_l1_norm(size, scale):
    delta = golden(size, size, scale)
    masked = [v if u >= 0.5 else 0.0 for v, u in zip(delta, random_numbers(0, size), strict=True)]
    got = after("dare(drop=0.5, variant=mergekit)", delta)
    np.testing.assert_allclose(got, np.array(masked) * norm_ratio(delta, masked), rtol=1e-13, atol=0)


@pytest.mark.parametrize("variant", ["paper", "mergekit"])
def test_dare_without_rescaling_only_drops(variant):
    delta = golden(1, 100)
    want = [v if u >= 0.3 else 0.0 for v, u in zip(delta, random_numbers(0, 100), strict=True)]
    np.testing.assert_array_equal(after(f"dare(drop=0.3, rescale=false, variant={variant})", delta), want)


def test_dares_expectation_is_the_delta():
    count, delta = 1000, np.array([1.0, -2.0, 0.5])
    recipe = parse_recipe("dare(drop=0.75)", METHODS)
    mean = sum(fuse_one(recipe, [delta], seed=str(seed)) for seed in range(count)) / count
    error = np.sqrt(0.75 / 0.25 / count)  # of the mean of δ m / (1 − p), relative to δ
    np.testing.assert_allclose(mean, delta, rtol=4 * error)


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])
def test_dare_drops_the_fraction_asked_for(drop):
    kept = np.count_nonzero(after(f"dare(drop={drop})", np.ones(100_000))) / 100_000
    assert abs(kept - (1 - drop)) < 4 * np.sqrt(drop * (1 - drop) / 100_000)


def test_masks_differ_between_contributions_tensors_and_seeds():
    ones = np.ones(64)
    fusion = InMemory(
        recipe=parse_recipe("dare then magmax", METHODS), base={"w": ones, "v": ones}, deltas=[{"w": ones, "v": ones}]
    )
    own = after("dare", ones)
    others = [after("dare", ones, seed="t"), fusion.fuse()["w"], fusion.fuse()["v"]]
    assert len({(other > 0).tobytes() for other in [own, *others]}) == 4
    np.testing.assert_array_equal(after("dare", ones), own)


def block(first, base, info):
    return Block(info=info, first=first, base_N=np.zeros(len(base)), deltas_CN=np.array([base]))


@pytest.mark.parametrize("method", [Dare(), Dare(drop=0.5, variant="mergekit"), Della(), Della(variant="mergekit")])
def test_masks_and_sums_do_not_depend_on_the_cut(method):
    delta = golden(3, 60)
    info = TensorInfo(
        tensor="w", shape=(12, 5), weights_C=np.ones(1), present_C=np.ones(1, bool),
        keys_C=np.array([key("s", "0", "w")], np.uint64), num_elements=60, measured={"norms": np.array([[3.0, 2.0]])},
    )  # fmt: skip
    pieces = [block(first, delta[first:last], info) for first, last in [(0, 5), (5, 35), (35, 60)]]
    whole = block(0, delta, info)
    for each in (*pieces, whole):
        method.transform(each.deltas_CN, np.array([0]), each)
    np.testing.assert_array_equal(np.hstack([piece.deltas_CN[0] for piece in pieces]), whole.deltas_CN[0])
    for measure in method.measures():
        sums = sum(measure.of(piece) for piece in pieces)
        np.testing.assert_allclose(sums, measure.of(whole), rtol=1e-14)


@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.05), (0.3, 0.2), (0.5, 0.5 - 1e-9), (1.0, 0.0)])
@examples(shape=[(), (1,), (2,), (7,), (64,), (9, 11), (100, 1), (2, 5, 10)])
def test_della_keeps_by_rank_in_the_row_and_divides_by_the_probability(shape, density, epsilon):
    delta = golden(len(shape), shape)
    rows = delta.reshape(-1, shape[-1] if shape else 1)
    keep = np.array([naive_keep(list(row), density, epsilon) for row in rows]).ravel()
    chosen = random_numbers(0, delta.size) < keep
    want = np.where(chosen, delta.ravel() / keep, 0.0).reshape(shape)
    np.testing.assert_allclose(after(f"della(density={density}, epsilon={epsilon})", delta), want, rtol=1e-14, atol=0)


@examples(scale=[1.0, 1e-09], shape=[(1,), (7,), (9, 11)])
def test_della_in_mergekits_variant_keeps_the_l1_norm(shape, scale):
    delta = golden(1, shape, scale)
    keep = np.array([naive_keep(list(row), 0.5, 0.15) for row in delta.reshape(-1, shape[-1])]).ravel()
    masked = [v if u < p else 0.0 for v, u, p in zip(delta.flat, random_numbers(0, delta.size), keep, strict=True)]
    want = np.reshape(masked, shape) * norm_ratio(delta.flat, masked)
    np.testing.assert_allclose(after("della(variant=mergekit)", delta), want, rtol=1e-13, atol=0)


def test_dellas_expectation_is_the_delta():
    count, delta = 1000, np.array([1.0, -2.0, 0.5])
    recipe = parse_recipe("della(density=0.4, epsilon=0.2)", METHODS)
    mean = sum(fuse_one(recipe, [delta], seed=str(seed)) for seed in range(count)) / count
    np.testing.assert_allclose(mean, delta, rtol=4 * np.sqrt(0.8 / 0.2 / count))


@pytest.mark.parametrize("line", ["della(density=0.05)", "della(density=0.96)", "della(density=0.1, variant=mergekit)"])
def test_della_refuses_probabilities_that_are_none(line):
    with pytest.raises(UserInputError, match="density ± epsilon are probabilities"):
        parse_recipe(line, METHODS)


def test_della_has_mergekits_default_in_its_variant():
    assert "epsilon=0.15" in format_recipe(parse_recipe("della(variant=mergekit)", METHODS), METHODS)
    assert "epsilon=0.05" in format_recipe(parse_recipe("della", METHODS), METHODS)


def test_what_dare_drops_neither_votes_nor_counts():
    fused = fuse_one(parse_recipe("dare then ties(density=1)", METHODS), [np.ones(64), np.ones(64)], seed="s")
    dropped_by_both = np.maximum(random_numbers(0, 64), random_numbers(1, 64)) < 0.5
    assert 0 < np.count_nonzero(dropped_by_both) < 64
    np.testing.assert_array_equal(fused, np.where(dropped_by_both, 0.0, 2.0))


def test_a_tensor_of_which_next_to_nothing_is_left_is_not_rescaled():
    assert norm_ratio_of([1.0, 5e-324]) == norm_ratio_of([1.0, 0.0]) == 1.0
    assert norm_ratio_of([3.0, 2.0]) == 1.5


def norm_ratio_of(norms):
    info = TensorInfo(
        tensor="w", shape=(1,), weights_C=np.ones(1), present_C=np.ones(1, bool), keys_C=np.zeros(1, np.uint64),
        num_elements=1, measured={"norms": np.array([norms])},
    )  # fmt: skip
    return rescaling.norm_ratios(info)[0]
