from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from coldfuse.core.dtypes import SAFE_CHANGE, from_floats, to_floats

EVERY_BF16 = np.arange(1 << 16, dtype=np.uint16)
EDGES = [0.0, -0.0, 2.0**-133, 2.0**-134, 2.0**-150, 1.0, 2.0**127, 3.38e38, 65504.0, 65519.99, 65520.0, 1e300, 5e-324]


def nearest_bf16(value: float) -> int:
    """Round exactly, by comparing fractions with every neighbour: to nearest, ties to even."""
    magnitudes = np.arange(0x7F81, dtype=np.uint32)  # up to infinity, which stands for 2^128
    exact = abs(Fraction(value))
    index = int(np.searchsorted(BF16_VALUES, float(abs(value)), side="right")) - 1
    near = [i for i in (index - 1, index, index + 1) if 0 <= i < len(magnitudes)]
    best = min(near, key=lambda i: (abs(BF16_EXACT(i) - exact), i % 2))
    return best | (0x8000 if np.signbit(value) else 0)


BF16_VALUES = (np.arange(0x7F80, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)


def BF16_EXACT(index: int) -> Fraction:
    return Fraction(2) ** 128 if index == 0x7F80 else Fraction(float(BF16_VALUES[index]))


def as_bf16(values: object, dtype: type = np.float64) -> list[int]:
    return from_floats(np.asarray(values, dtype), "BF16").view(np.uint16).tolist()


def test_bfloat16_is_the_nearest_to_the_exact_number() -> None:
    rng = np.random.default_rng(0)
    random = rng.normal(size=1000) * 10.0 ** rng.integers(-45, 38, size=1000)
    values = [*EDGES, *(-edge for edge in EDGES), *random.tolist()]
    assert as_bf16(values) == [nearest_bf16(value) for value in values]


@pytest.mark.parametrize(("sign", "scale"), [(1.0, 1.0), (-1.0, 2.0**100), (1.0, 2.0**-120), (-1.0, 2.0**-140)])
def test_bfloat16_is_not_rounded_twice(sign: float, scale: float) -> None:
    ulp = 2.0**-7 if scale > 2.0**-126 else 2.0**-133 / scale
    middle = 1 + ulp / 2 if scale > 2.0**-126 else 8.5 * ulp
    values = [sign * scale * (middle + nudge * 2.0**-45 * ulp) for nudge in (-1, 0, 1)]
    assert len({float(np.float32(value)) for value in values}) == 1  # float32 cannot tell them apart
    assert as_bf16(values) == [nearest_bf16(value) for value in values]
    assert len(set(as_bf16(values))) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_bfloat16_survives_the_way_there_and_back(dtype: type) -> None:
    numbers = to_floats(EVERY_BF16.view(np.uint8), "BF16")
    is_number = ~np.isnan(numbers)
    back = from_floats(numbers[is_number].astype(dtype), "BF16").view(np.uint16)
    assert np.array_equal(back, EVERY_BF16[is_number])


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
def test_infinities_signs_and_nan_stay_what_they_are(dtype: str) -> None:
    values = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0])
    back = to_floats(from_floats(values, dtype), dtype)
    assert np.array_equal(back, values, equal_nan=True)
    assert np.signbit(back[3:]).tolist() == [False, True]


def test_nan_with_a_payload_in_its_last_bits_stays_nan() -> None:
    values = np.array([0x7F800001, 0xFFFFFFFF, 0x7F808000], np.uint32).view(np.float32)
    assert np.isnan(to_floats(from_floats(values, "BF16"), "BF16")).all()


def test_what_does_not_fit_into_half_precision_is_infinite() -> None:
    halves = to_floats(from_floats(np.array([65504.0, 65519.999, 65520.0, -1e6, 1e300]), "F16"), "F16")
    assert halves.tolist() == [65504.0, 65504.0, np.inf, -np.inf, np.inf]


def test_half_precision_is_not_rounded_twice() -> None:
    just_above_middle = 1 + 2.0**-11 + 2.0**-40
    halves = to_floats(from_floats(np.array([just_above_middle, 1 + 2.0**-11]), "F16"), "F16")
    assert halves.tolist() == [1 + 2.0**-10, 1.0]


@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_wide_dtypes_are_views(dtype: str) -> None:
    raw = np.zeros(16, np.uint8)
    assert np.shares_memory(to_floats(raw, dtype), raw)


@pytest.mark.parametrize("dtype", SAFE_CHANGE)
def test_a_safe_change_takes_the_largest_number_nowhere(dtype: str) -> None:
    largest = to_floats(from_floats(np.array([np.finfo(np.float64).max]), "F64"), "F64")
    if dtype != "F64":
        bits = {"BF16": np.uint16(0x7F7F), "F16": np.uint16(0x7BFF), "F32": np.uint32(0x7F7FFFFF)}[dtype]
        largest = to_floats(np.array([bits]).view(np.uint8), dtype).astype(np.float64)
    single = np.float64 if dtype == "F64" else np.float32  # deltas have no more digits than float32
    below = float(np.nextafter(single(SAFE_CHANGE[dtype]), single(0)))
    with np.errstate(over="ignore"):
        assert np.isfinite(to_floats(from_floats(largest + below, dtype), dtype)).all()
        assert np.isinf(to_floats(from_floats(largest + SAFE_CHANGE[dtype], dtype), dtype)).all()


@pytest.mark.parametrize("convert", [to_floats, from_floats])
def test_integers_cannot_be_fused(convert) -> None:
    with pytest.raises(ValueError, match="I64 is not a dtype that can be fused"):
        convert(np.zeros(8, np.uint8), "I64")
