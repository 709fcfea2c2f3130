"""The compiled kernels do, bit by bit, what numpy and the plain functions of core.dtypes do."""

import numpy as np
import pytest

from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.fusion.kernels import decode, encode


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_16_bit_pattern_is_decoded_without_loss(dtype):
    raw = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    out = np.empty(1 << 16)

    decode(raw, dtype, out)

    with np.errstate(invalid="ignore"):  # signalling NaNs are among the patterns
        expected = to_floats(raw, dtype).astype(np.float64)
    np.testing.assert_array_equal(out, expected)
    assert (np.signbit(out) == np.signbit(expected))[~np.isnan(out)].all()


@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_wide_floats_are_decoded_without_loss(dtype):
    values = np.array([0.0, -0.0, 1e-45, -3.4e38, np.inf, np.nan, 0.1], np.float32 if dtype == "F32" else np.float64)
    out = np.empty(len(values))

    decode(values.view(np.uint8), dtype, out)

    np.testing.assert_array_equal(out, values.astype(np.float64))


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])
def test_encoding_rounds_as_the_plain_function_does(dtype):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(20_000) * 10.0 ** rng.integers(-45, 40, 20_000)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8)]
    values = np.concatenate([values, special])

    np.testing.assert_array_equal(encode(values, dtype), from_floats(values, dtype))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_tie_that_float32_made_is_decided_by_the_float64(sign):
    middle = 1 + 2**-8  # exactly between the bfloat16 1.0 and 1.0078125
    values = sign * np.array([middle - 2**-40, middle, middle + 2**-40])

    rounded = to_floats(encode(values, "BF16"), "BF16")

    np.testing.assert_array_equal(rounded, sign * np.array([1.0, 1.0, 1.0078125]))
