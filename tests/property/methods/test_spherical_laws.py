"""What every spherical method keeps to: equal, zero and opposite deltas, weights of zero, any scale; and NearSwap."""

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.block import Block, TensorInfo
from coldfuse.fusion.in_memory import fuse_one
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import arrange, parse_recipe
from coldfuse.fusion.spherical.karcher import Karcher
from coldfuse.fusion.spherical.model_stock import ModelStock
from coldfuse.fusion.spherical.multi_slerp import MultiSlerp
from coldfuse.fusion.spherical.nearswap import Nearswap
from coldfuse.fusion.spherical.nuslerp import Nuslerp, NuslerpRows
from coldfuse.fusion.spherical.slerp import Slerp

OF_TWO = pytest.mark.parametrize(
    "method", [Slerp(), Nuslerp(), NuslerpRows()], ids=["slerp", "nuslerp", "nuslerp-rows"]
)
OF_ANY = pytest.mark.parametrize(
    "method",
    [MultiSlerp(), Karcher(), Karcher(sphere="deltas"), ModelStock()],
    ids=["multi-slerp", "karcher", "karcher-of-deltas", "model-stock"],
)


def vectors(size, *, count=3, scale=1.0):
    return list(np.random.default_rng(size).standard_normal((count, size)) * scale)


def fuse(method, deltas, **options):
    return fuse_one(arrange([method], ""), deltas, **options)


@OF_ANY
@examples(size=SIZES, scale=SCALES)
def test_equal_deltas_come_back_unchanged(method, size, scale):
    base, delta = vectors(size, count=2)
    for count in (1, 2, 4, 5):
        fused = fuse(method, [scale * delta] * count, base=base)

        np.testing.assert_allclose(fused, scale * delta, rtol=1e-15, atol=0)


@OF_TWO
@examples(size=SIZES, scale=SCALES)
def test_two_equal_deltas_come_back_bit_by_bit(method, size, scale):
    base, delta = vectors(size, count=2)

    np.testing.assert_array_equal(fuse(method, [scale * delta] * 2, base=base), scale * delta)


@pytest.mark.parametrize("method", [Slerp(), Nuslerp(), NuslerpRows(), MultiSlerp(), Karcher(), ModelStock()])
@examples(base=[0.0, 0.1, 1e-30])
def test_zero_deltas_stay_exactly_zero(base, method):
    zeros = [np.zeros(7), np.full(7, -0.0)]

    assert not fuse(method, zeros, base=np.full(7, base)).any()


@pytest.mark.parametrize("method", [Slerp(), Nuslerp(), NuslerpRows()])
def test_an_arc_to_zero_is_a_straight_line(method):
    one = np.array([4.0, 0.0, -8.0])

    assert fuse(method, [one, np.zeros(3)], weights=[3.0, 1.0]).tolist() == [3.0, 0.0, -6.0]


@pytest.mark.parametrize("method", [MultiSlerp(), Karcher(), Karcher(sphere="deltas")])
def test_a_zero_delta_shortens_and_does_not_turn(method):
    one = np.array([4.0, 0.0, -8.0])

    np.testing.assert_allclose(fuse(method, [one, np.zeros(3)], weights=[3.0, 1.0]), 0.75 * one, rtol=1e-14)


@OF_ANY
@examples(base=[0.0, 1.0], scale=[1.0, 1e-06, 1e-42, 1e-200])
def test_deltas_that_cancel_give_finite_numbers_no_larger_than_they_are(method, base, scale):
    one, other = vectors(7, count=2)
    for deltas in ([one, -one], [one, other, -one - other], [one, -one, np.zeros(7)]):
        fused = fuse(method, [scale * delta for delta in deltas], base=np.full(7, base))

        assert np.abs(fused).max() <= 3 * scale * max(np.abs(deltas).sum(axis=1))


def test_opposite_deltas_meet_where_their_mean_is():
    one = vectors(99, count=1)[0]

    np.testing.assert_allclose(fuse(MultiSlerp(), [one, -3 * one]), -one, rtol=1e-14)


def test_a_weight_of_zero_is_absence():
    base, *deltas = vectors(7, count=4)
    for method in (MultiSlerp(), Karcher()):
        with_zero = fuse(method, deltas, base=base, weights=[1.0, 2.0, 0.0])
        np.testing.assert_allclose(with_zero, fuse(method, deltas[:2], base=base, weights=[1.0, 2.0]), rtol=1e-12)


@pytest.mark.parametrize("method", [MultiSlerp(), Karcher()])
@examples(weights=[[2.0, -1.0, 1.0], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]])
def test_weights_that_are_no_parts_of_a_whole_are_refused(method, weights):
    with pytest.raises(FusionError, match="weights"):
        fuse(method, vectors(7), weights=weights)


@OF_ANY
def test_numbers_whose_squares_overflow_are_refused(method):
    with np.errstate(all="ignore"), pytest.raises(FusionError, match=r"^w: .*too large"):
        fuse(method, [1e200 * delta for delta in vectors(7)])


@examples(size=SIZES, scale=SCALES)
def test_nearswap_weighs_a_delta_by_its_nearness(size, scale):
    [delta] = vectors(size, count=1, scale=scale)
    delta[::3] = 0.0
    t = 0.4 * scale

    fused = fuse(Nearswap(t=t), [delta])

    weights = [1.0 if x == 0 else min(1.0, t / abs(x)) for x in delta]
    np.testing.assert_allclose(fused, [w * x for w, x in zip(weights, delta, strict=True)], rtol=1e-12, atol=0)


def test_nearswap_keeps_the_threshold_itself_and_the_sign_of_zero():
    fused = fuse(Nearswap(t=0.5), [np.array([0.5, -0.5, 0.75, -7e30, 0.0])])

    assert fused.tolist() == [0.5, -0.5, 0.5, -0.5, 0.0]
    delta = np.array([[-0.0]])
    info = TensorInfo(
        tensor="w", shape=(1,), weights_C=np.ones(1), present_C=np.ones(1, bool), keys_C=np.empty(0, np.uint64),
        num_elements=1,
    )  # fmt: skip
    Nearswap().transform(delta, np.array([0]), Block(info=info, first=0, base_N=np.zeros(1), deltas_CN=delta))
    assert np.signbit(delta[0, 0])


def test_recipes_name_the_spherical_methods():
    recipe = parse_recipe("nearswap(t=0.001) then karcher(sphere=deltas, max_iterations=3)", METHODS)

    assert recipe.transforms == (Nearswap(t=0.001),)
    assert recipe.combiner == Karcher(sphere="deltas", max_iterations=3)


@OF_TWO
@examples(count=[1, 3])
def test_an_arc_has_two_ends(method, count):
    with pytest.raises(FusionError, match=f"joins 2 models, got {count}"):
        fuse(method, vectors(7, count=count))
