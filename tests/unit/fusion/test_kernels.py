"""The kernels do bit by bit what numpy and the plain functions of core.dtypes do, compiled or not."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.fusion import compiling, kernels
from coldfuse.fusion.kernels import add, decode, subtract_rows, sum_rows

RNG = np.random.default_rng(0)
SPECIAL = np.array(
    [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 1e300, 5e-324, 1e-45, 1e-40, 3.4028235677973366e38,
     65504.0, 65519.99, 65520.0, -65536.0, 2.0**-14, 2.0**-15, 2.0**-24, 2.0**-25, 1.5 * 2.0**-24, 2.5 * 2.0**-24,
     1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 - 2.0**-40, 1 + 2.0**-8 + 2.0**-40, -(1 + 2.0**-8 + 2.0**-40),
     1 + 2.0**-11, 1 + 2.0**-11 - 2.0**-40, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-24, 1 + 2.0**-24 + 2.0**-50]
)  # fmt: skip
"""Zeros, subnormals, what does not fit, and numbers halfway between two of a narrower dtype or just beside."""


@pytest.fixture(params=["numpy", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(kernels, "pays", lambda _: request.param == "compiled")
    return request.param


def values(count: int) -> np.ndarray:
    drawn = RNG.standard_normal(count) * 10.0 ** RNG.integers(-46, 39, count)
    drawn[: len(SPECIAL)] = SPECIAL
    return drawn


def raw_of(dtype: str) -> np.ndarray:
    """Every number that 16 bits can be, or many of the wider ones; more than a tile holds."""
    if ITEM_BYTES[dtype] == 2:
        return np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    return from_floats(values(20_000), dtype)


def wide(raw: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # signalling NaNs are among the patterns
        return to_floats(raw, dtype).astype(np.float64)


def assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """NaN is NaN, whatever its bits."""
    np.testing.assert_array_equal(got, expected)
    assert (np.signbit(got) == np.signbit(expected))[~np.isnan(expected)].all()


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
def test_elements_are_decoded_without_loss(dtype: str, way: str) -> None:
    raw = raw_of(dtype)
    out = np.empty(len(raw) // ITEM_BYTES[dtype])
    decode(raw, dtype, out)
    assert_same_bits(out, wide(raw, dtype))


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
def test_the_base_is_subtracted_from_every_row(dtype: str, way: str) -> None:
    rows = [raw_of(dtype), np.roll(raw_of(dtype), 8)]
    base_N, out_CN = values(len(rows[0]) // ITEM_BYTES[dtype]), np.empty((2, len(rows[0]) // ITEM_BYTES[dtype]))
    assert not subtract_rows(np.hstack(rows), dtype, base_N=base_N, out_CN=out_CN)
    with np.errstate(all="ignore"):
        for row, got_N in zip(rows, out_CN, strict=True):
            assert_same_bits(got_N, wide(row, dtype) - base_N)
    assert subtract_rows(from_floats(np.ones(6), dtype), dtype, base_N=np.ones(3), out_CN=np.empty((2, 3)))
    assert not subtract_rows(from_floats(np.array([1, np.inf]), dtype), dtype, base_N=None, out_CN=np.empty((2, 1)))


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
def test_rows_are_summed_in_their_order(dtype: str, way: str) -> None:
    raws = [raw_of(dtype), np.roll(raw_of(dtype), 8), np.roll(raw_of(dtype), 64)]
    before, start_N = np.roll(raws[0], 16), values(len(raws[0]) // ITEM_BYTES[dtype])
    rows = [wide(raw, dtype) for raw in raws]
    for coefficients, base, start, divisor in (
        ([1.0, 1.0, 1.0], None, None, 3.0),
        ([0.3, 0.0, -2.0], before, None, 1.0),
        ([0.5, 2.0, 1.0], before, start_N, 7),
    ):
        sum_N = np.empty(len(start_N))
        sum_rows(
            np.hstack(raws), dtype, base=base, coefficients_C=np.array(coefficients), divisor=divisor, sum_N=sum_N,
            start_N=start,
        )  # fmt: skip
        with np.errstate(all="ignore"):
            expected = np.zeros(len(start_N)) if start is None else start.copy()
            for row, coefficient in zip(rows, coefficients, strict=True):
                if coefficient:
                    expected += (row - (0.0 if base is None else wide(base, dtype))) * coefficient
            assert_same_bits(sum_N, expected / divisor)


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
def test_a_sum_is_rounded_once_and_what_does_not_move_keeps_its_bytes(dtype: str, way: str) -> None:
    for base, delta_N in (
        (raw_of(dtype), RNG.standard_normal(len(raw_of(dtype)) // ITEM_BYTES[dtype])),
        (from_floats(np.zeros(20_000), dtype), values(20_000)),
    ):
        delta_N[::3], out = 0.0, np.empty_like(base)
        assert not add(base, delta_N, dtype, out)
        with np.errstate(all="ignore"):
            expected = from_floats(wide(base, dtype) + delta_N, dtype)
        assert_same_bits(wide(out, dtype), np.where(delta_N == 0, wide(base, dtype), wide(expected, dtype)))
        assert (out.reshape(len(delta_N), -1)[::3] == base.reshape(len(delta_N), -1)[::3]).all()
    assert add(from_floats(np.ones(3), dtype), np.array([0.5, 0.0, -0.5]), dtype, np.empty(3 * ITEM_BYTES[dtype], "u1"))


def test_numba_is_loaded_when_there_is_enough_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_is_loaded", False)
    monkeypatch.setattr(compiling, "_done_by_numpy", 0)
    answers = [compiling.pays(compiling.LOADING_PAYS // 2) for _ in range(5)]
    assert answers == [False, False, False, True, True]
    monkeypatch.setattr(compiling, "_is_loaded", True)
    assert compiling.pays(1)
