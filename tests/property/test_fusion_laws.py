"""Laws of every fusion method, over sizes, dtypes and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from coldfuse.core.contribution import Admission
from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.errors import FusionError, UserInputError
from coldfuse.fusion.apply import move
from coldfuse.fusion.block import Block
from coldfuse.fusion.methods import METHODS, find_method

SIZES = (1, 2, 7, 64, 99, 100)
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
sizes = pytest.mark.parametrize("size", SIZES)
seeds = pytest.mark.parametrize("seed", range(3))
dtypes = pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])


def draw(size: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Draw float32 numbers, as float64: deltas have no more digits."""
    return (np.random.default_rng(seed).normal(size=size) * scale).astype(np.float32).astype(np.float64)


def fuse(method, deltas: Sequence[np.ndarray | None], weights: Sequence[float] | None = None, size: int = 0):
    """Fuse through one buffer that is used again, as the aggregator does."""
    size = size or len(next(delta for delta in deltas if delta is not None))
    buffer = np.empty(size)

    def one_after_the_other():
        for delta in deltas:
            if delta is not None:
                buffer[:] = delta
            yield None if delta is None else buffer

    given = [1.0] * len(deltas) if weights is None else weights
    return method.fuse(Block(size, given, one_after_the_other()))


def base_of(size: int, dtype: str, seed: int = 99) -> np.ndarray:
    base = draw(size, seed)
    base[0] = -0.0
    return from_floats(base, dtype)


@methods
@sizes
@dtypes
def test_zero_deltas_keep_every_bit_of_the_base(method, size: int, dtype: str) -> None:
    base = base_of(size, dtype)
    for zero in (0.0, -0.0):
        fused = move(base, fuse(method, [np.full(size, zero)] * 3), dtype)
        assert fused.tobytes() == base.tobytes()


@methods
@sizes
def test_unchanged_everywhere_is_a_delta_of_zero(method, size: int) -> None:
    assert not fuse(method, [None, None], size=size).any()


@methods
@sizes
@seeds
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-42, 1e30])
def test_what_all_agree_on_comes_back_unchanged(method, size: int, seed: int, scale: float) -> None:
    delta = draw(size, seed, scale)
    assert delta.any()
    for count in (1, 2, 3, 7, 64):
        assert fuse(method, [delta] * count).tobytes() == delta.tobytes()


@methods
@sizes
@seeds
def test_weight_zero_equals_absence(method, size: int, seed: int) -> None:
    deltas = [draw(size, seed + i) for i in range(3)]
    with_zero = fuse(method, [deltas[0], deltas[1] * 1e6, deltas[2]], [2.0, 0.0, 3.0])
    assert with_zero.tobytes() == fuse(method, [deltas[0], deltas[2]], [2.0, 3.0]).tobytes()


@methods
@sizes
@seeds
@dtypes
def test_finite_in_finite_out_in_the_shape_and_dtype_of_the_base(method, size: int, seed: int, dtype: str) -> None:
    base = base_of(size, dtype)
    before = base.tobytes()
    fused = move(base, fuse(method, [draw(size, seed + i, 1e-3) for i in range(4)]), dtype)
    assert (fused.shape, fused.dtype) == (base.shape, np.uint8)
    assert np.isfinite(to_floats(fused, dtype)).all()
    assert base.tobytes() == before


@methods
@sizes
@seeds
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-41])
def test_the_fused_delta_is_the_weighted_mean(method, size: int, seed: int, scale: float) -> None:
    weights = [float(w) for w in np.random.default_rng(seed).integers(1, 1000, size=5)]
    deltas = [None if i == 2 else draw(size, seed + i, scale) for i in range(5)]
    fused = fuse(method, deltas, weights, size)
    for n in range(size):
        terms = [Fraction(w) * Fraction(0 if d is None else d[n]) for w, d in zip(weights, deltas, strict=True)]
        exact = sum(terms) / Fraction(sum(weights))
        bound = 8 * Fraction(2) ** -53 * sum(map(abs, terms)) / Fraction(sum(weights))  # eight roundings at most
        assert abs(Fraction(fused[n]) - exact) <= bound


@sizes
@dtypes
def test_base_and_delta_are_added_and_rounded_once(size: int, dtype: str) -> None:
    base, delta = base_of(size, dtype), draw(size, 7, 1e-3) + draw(size, 8, 1e-12)
    exact = to_floats(base, dtype).astype(np.float64) + delta
    assert move(base, delta, dtype).tobytes() == from_floats(exact, dtype).tobytes()


def test_a_change_too_small_to_see_alone_is_not_lost_among_many() -> None:
    tiny = np.array([2.0**-30])
    fused = fuse(METHODS["mean"], [np.array([1.0]), *[tiny] * 4])
    assert fused[0] == (1.0 + 4 * 2.0**-30) / 5


def test_weights_are_one_or_the_number_of_examples() -> None:
    digest = "0" * 64
    admission = Admission(contribution=digest, contributor="a", delta_digest=digest, num_examples=70)
    assert {name: method.weigh(admission) for name, method in METHODS.items()} == {"mean": 1.0, "weighted-mean": 70.0}


@methods
@pytest.mark.parametrize("weights", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], [-1.0, 1.0], [-2.0, 1.0]])
def test_weights_that_make_no_mean_are_refused(method, weights: list[float]) -> None:
    with pytest.raises(FusionError, match=r"weights sum to .*, expected a finite number above 0"):
        fuse(method, [np.ones(3)] * 2, weights)


@methods
def test_as_many_weights_as_deltas_are_expected(method) -> None:
    with pytest.raises(ValueError, match="zip"):
        fuse(method, [np.ones(3)] * 2, [1.0] * 3)


@pytest.mark.parametrize(
    ("dtype", "largest"), [("F16", 65504.0), ("BF16", 3.3895e38), ("F32", 3.4028e38), ("F64", 1.7e308)]
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_sum_beyond_the_dtype_is_an_error(dtype: str, largest: float, sign: float) -> None:
    base = from_floats(np.array([0.0, sign * largest, 1.0, -sign * largest]), dtype)
    with pytest.raises(FusionError, match=f"do not fit into {dtype}"):
        move(base, np.array([0.0, sign * largest, 0.0, -sign * largest]), dtype)


def test_an_overflow_is_seen_beside_infinities_of_the_base() -> None:
    base = from_floats(np.array([-np.inf, np.nan, 65504.0]), "F16")
    with pytest.raises(FusionError, match="do not fit into F16"):
        move(base, np.array([0.0, 0.0, 65504.0]), "F16")
    kept = to_floats(move(base, np.array([0.0, 1.0, -32.0]), "F16"), "F16")
    assert np.array_equal(kept, [-np.inf, np.nan, 65472.0], equal_nan=True)


def test_large_finite_numbers_are_no_overflow() -> None:
    base = from_floats(np.full(4, 1e308), "F64")
    assert np.isfinite(to_floats(move(base, np.full(4, 1e300), "F64"), "F64")).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_delta_that_is_no_number_is_an_error(bad: float) -> None:
    with pytest.raises(FusionError, match="do not fit"):
        move(from_floats(np.ones(3), "F32"), np.array([0.0, bad, 0.0]), "F32")


def test_subnormal_bases_move_by_subnormal_steps() -> None:
    base = from_floats(np.array([2.0**-149, -(2.0**-149)]), "F32")
    assert to_floats(move(base, np.full(2, 2.0**-149), "F32"), "F32").tolist() == [2.0**-148, 0.0]


def test_an_unknown_method_is_told_the_known_ones() -> None:
    with pytest.raises(UserInputError, match="'median' is not known; known are mean, weighted-mean"):
        find_method("median")
