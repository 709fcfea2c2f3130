"""Spherical methods against maps of whole vectors, in loops; the methods see inner products alone."""

import math

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.recipe import Recipe, arrange
from coldfuse.fusion.spherical.angles import angle, cosine, sine
from coldfuse.fusion.spherical.karcher import Karcher
from coldfuse.fusion.spherical.model_stock import ModelStock
from coldfuse.fusion.spherical.multi_slerp import MultiSlerp
from coldfuse.fusion.spherical.nuslerp import Nuslerp, NuslerpRows
from coldfuse.fusion.spherical.slerp import Slerp


def vectors(size, *, count=3, scale=1.0):
    return list(np.random.default_rng(size).standard_normal((count, size)) * scale)


def fuse(method, deltas, **options):
    return fuse_one(arrange([method], ""), deltas, **options)


def dot(a, b):
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def length(a):
    return math.sqrt(dot(a, a))


def arc_between(a, b, t, threshold=1.0):
    """Go along an arc, by the angle that the library knows."""
    if length(a) == 0 or length(b) == 0:
        return (1 - t) * a + t * b
    cos = dot(a, b) / (length(a) * length(b))
    if abs(cos) > threshold or abs(cos) >= 1:
        return (1 - t) * a + t * b
    omega = math.acos(cos)
    return (math.sin((1 - t) * omega) * a + math.sin(t * omega) * b) / math.sin(omega)


def logarithm(m, u):
    """Return the tangent at m that leads to u, both of length 1."""
    cos = min(1.0, max(-1.0, dot(m, u)))
    omega = math.acos(cos)
    return np.zeros(len(m)) if omega < 1e-5 or omega > math.pi - 1e-5 else omega / math.sin(omega) * (u - cos * m)


def exponential(m, v):
    return math.cos(length(v)) * m + math.sin(length(v)) / length(v) * v if length(v) else m


def karcher_of(models, shares, steps):
    units = [model / length(model) for model in models]
    m = sum(share * unit for share, unit in zip(shares, units, strict=True))
    m = m / length(m) if length(m) >= 1e-5 else units[0]
    for _ in range(steps):
        v = sum(share * logarithm(m, unit) for share, unit in zip(shares, units, strict=True))
        if length(v) < 1e-5:
            break
        m = exponential(m, v)
        m = m / length(m)
    return m * sum(share * length(model) for share, model in zip(shares, models, strict=True))


def multislerp_of(deltas, shares):
    """Take all steps that mergekit's formula has."""
    units = [delta / length(delta) for delta in deltas]
    m = sum(share * unit for share, unit in zip(shares, units, strict=True))
    m = m / length(m)
    v = sum(share * (unit - dot(unit, m) * m) for share, unit in zip(shares, units, strict=True))
    return exponential(m, v) * sum(share * length(delta) for share, delta in zip(shares, deltas, strict=True))


def model_stock_of(deltas):
    count = len(deltas)
    pairs = [(a, b) for i, a in enumerate(deltas) for b in deltas[:i]]
    cos = sum(dot(a, b) / (length(a) * length(b)) for a, b in pairs) / len(pairs)
    t = count * cos / (1 + (count - 1) * cos)
    return t * sum(deltas) / count


# angles


def test_angles_and_sines_are_those_of_the_library():
    for x in np.linspace(-3 * math.pi, 3 * math.pi, 201):
        assert sine(x) == pytest.approx(math.sin(x), rel=1e-14, abs=1e-15)
        assert cosine(x) == pytest.approx(math.cos(x), rel=1e-14, abs=1e-15)
    for c in [*np.linspace(-1, 1, 201), 1 - 1e-15, 1e-15 - 1, 1e-300, -0.0]:
        assert angle(c) == pytest.approx(math.acos(c), rel=1e-15, abs=0)


def test_whole_and_right_angles():
    assert (angle(1.0), angle(-1.0), angle(0.0)) == (0.0, math.pi, pytest.approx(math.pi / 2, rel=1e-15))
    assert sine(0.0) == 0
    assert sine(math.pi / 2) == pytest.approx(1, rel=2e-16)
    assert cosine(0.0) == pytest.approx(1, rel=2e-16)


# slerp


@examples(size=SIZES)
def test_slerp_goes_along_the_arc_between_two_models(size):
    base, one, other = vectors(size)
    for t in (0.0, 0.2, 0.5, 1.0):
        fused = fuse(Slerp(), [one, other], base=base, weights=[1 - t, t])

        expected = arc_between(base + one, base + other, t, 0.9995)
        np.testing.assert_allclose(base + fused, expected, rtol=1e-11, atol=1e-14)


def test_halfway_between_two_axes_lies_the_diagonal():
    fused = fuse(Slerp(), [np.array([1.0, 0.0]), np.array([0.0, 1.0])])

    np.testing.assert_allclose(fused, [math.sqrt(0.5)] * 2, rtol=1e-15)


@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-42])
def test_slerp_of_models_near_their_base_is_a_straight_line_to_the_last_bit(delta):
    base, one, other = vectors(99)

    fused = fuse(Slerp(), [delta * one, delta * other], base=base)

    np.testing.assert_array_equal(fused, (delta * one + delta * other) / 2)


@pytest.mark.parametrize(("cos", "is_straight"), [(0.9996, True), (0.9994, False), (-0.9996, True), (-0.9994, False)])
def test_slerp_is_straight_beyond_its_threshold(cos, is_straight):
    one, other = np.array([2.0, 0.0]), np.array([cos, math.sqrt(1 - cos**2)])

    fused = fuse(Slerp(), [one, other], weights=[0.75, 0.25])

    assert np.array_equal(fused, 0.75 * one + 0.25 * other) == is_straight
    np.testing.assert_allclose(fused, arc_between(one, other, 0.25, 0.9995), rtol=1e-9)


def test_the_weights_say_where_on_the_arc():
    one, other = vectors(7, count=2)

    fused = fuse(Slerp(), [one, other], weights=[30.0, 10.0])

    np.testing.assert_allclose(fused, arc_between(one, other, 0.25, 0.9995), rtol=1e-12)


def test_slerp_counts_t_from_the_first_model():
    one, other = vectors(7, count=2)
    slerp = Slerp(t=0.3)

    fused = fuse(slerp, [one, other], weights=slerp.positional_weights(2))

    np.testing.assert_allclose(fused, arc_between(one, other, 0.3, 0.9995), rtol=1e-12)
    assert Slerp().positional_weights(2) is None


def test_slerp_does_not_guess_which_model_is_first():
    with pytest.raises(FusionError, match="name two models in order"):
        fuse(Slerp(t=0.3), vectors(7, count=2))
    with pytest.raises(FusionError, match="expected 2 in order, got 3"):
        Slerp(t=0.3).positional_weights(3)


# nuslerp


@pytest.mark.parametrize("method", [Nuslerp(), NuslerpRows()], ids=["whole", "rows"])
@examples(size=SIZES, scale=SCALES)
def test_nuslerp_goes_along_the_arc_between_two_deltas(size, scale, method):
    one, other = vectors(size, count=2)
    for t in (0.0, 0.2, 1.0):
        fused = fuse(method, [scale * one, scale * other], base=np.ones(size), weights=[1 - t, t])

        np.testing.assert_allclose(fused / scale, arc_between(one, other, t), rtol=1e-11, atol=1e-13)


def test_nuslerp_by_rows_turns_every_row_by_its_own_angle():
    one, other = (vector.reshape(3, 4) for vector in vectors(12, count=2))
    one[1] = 0.0
    other[2] = one[2]

    fused = fuse(NuslerpRows(), [one, other], weights=[3.0, 1.0])

    expected = [arc_between(a, b, 0.25) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(fused, expected, rtol=1e-12)


@pytest.mark.parametrize("method", [Nuslerp(), NuslerpRows()])
@examples(factor=[-1.0, -3.0, 7.0])
def test_between_parallel_and_opposite_deltas_the_line_is_straight(method, factor):
    one = vectors(99, count=1)[0] * 0.1

    fused = fuse(method, [one, factor * one], weights=[1.0, 3.0])

    np.testing.assert_allclose(fused, 0.25 * one + 0.75 * factor * one, rtol=1e-11)


# several


@examples(size=SIZES, scale=SCALES)
def test_multi_slerp_is_what_its_longer_formula_gives(size, scale):
    deltas = [np.abs(delta) for delta in vectors(size)]

    fused = fuse(MultiSlerp(), [scale * delta for delta in deltas], weights=[2.0, 1.0, 5.0])

    np.testing.assert_allclose(fused / scale, multislerp_of(deltas, [0.25, 0.125, 0.625]), rtol=1e-11)


@examples(size=SIZES, scale=SCALES, steps=[0, 1, 10])
def test_karcher_takes_the_steps_of_logarithm_and_exponential_maps(size, scale, steps):
    deltas = [factor * delta for factor, delta in zip([5, 1, 1], vectors(size), strict=True)]

    method = Karcher(sphere="deltas", max_iterations=steps)
    fused = fuse(method, [scale * delta for delta in deltas], weights=[2.0, 1.0, 5.0])

    np.testing.assert_allclose(fused / scale, karcher_of(deltas, [0.25, 0.125, 0.625], steps), rtol=1e-8, atol=1e-10)


@examples(size=SIZES, scale=[1.0, 0.01, 1e-06])
def test_karcher_of_models_turns_about_zero(size, scale):
    base, *deltas = vectors(size, count=5)
    deltas = [scale * delta for delta in deltas]

    fused = fuse(Karcher(), deltas, base=base)

    expected = karcher_of([base + delta for delta in deltas], [0.25] * 4, 10)
    np.testing.assert_allclose(base + fused, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", [MultiSlerp(), Karcher()])
def test_the_centre_of_three_axes_is_their_diagonal(method):
    fused = fuse(method, list(np.eye(3) * 2))

    np.testing.assert_allclose(fused, [2 / math.sqrt(3)] * 3, rtol=1e-14)


def test_karcher_balances_what_multi_slerp_does_not():
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])

    fused = fuse(Karcher(), [one, one, other])

    assert math.atan2(fused[1], fused[0]) == pytest.approx(math.pi / 6, abs=1e-5)  # a third of the right angle
    fused = fuse(MultiSlerp(), [one, one, other])
    assert math.atan2(fused[1], fused[0]) == pytest.approx(math.atan2(1, 2))


@examples(size=SIZES, scale=SCALES)
def test_model_stock_goes_as_far_as_the_deltas_agree(size, scale):
    shared, *deltas = vectors(size, count=5)
    deltas = [shared + 0.3 * delta for delta in deltas]

    fused = fuse(ModelStock(), [scale * delta for delta in deltas], base=np.ones(size))

    np.testing.assert_allclose(fused / scale, model_stock_of(deltas), rtol=1e-10)


def test_two_models_at_60_degrees_stop_at_two_thirds_of_their_mean():
    one, other = np.array([1.0, 0.0]), np.array([0.5, math.sqrt(0.75)])

    np.testing.assert_allclose(fuse(ModelStock(), [one, other]), 2 / 3 * (one + other) / 2, rtol=1e-14)


def test_model_stock_keeps_the_base_where_deltas_are_at_right_angles_or_cancel():
    one = np.array([1.0, 2.0])

    assert not fuse(ModelStock(), [one, np.array([-2.0, 1.0])]).any()
    assert not fuse(ModelStock(), [one, -3 * one]).any()


def test_every_tensor_has_angles_of_its_own():
    deltas = [{"a": np.array([1.0, 0.0]), "b": np.array([1.0, 0.0])}, {"a": np.array([0.0, 1.0]), "b": np.ones(2)}]
    base = {"a": np.zeros(2), "b": np.zeros(2)}

    fused = InMemory(recipe=Recipe(combiner=ModelStock()), base=base, deltas=deltas).fuse()

    np.testing.assert_allclose(fused["a"], 0, atol=1e-15)
    np.testing.assert_allclose(fused["b"], model_stock_of([deltas[0]["b"], deltas[1]["b"]]), rtol=1e-14)
