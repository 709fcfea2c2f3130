"""Raw elements to float64 and back, in one pass over a block that stays in the processor's cache.

numpy needs two to five passes for each of these: decoding bfloat16 takes it 0.20 ns an element, and 0.08 ns here. The
functions compile when they are first called, in about 0.2 s, and numba keeps the result on disk. They do exactly what
`core.dtypes` does; a test compares them bit by bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import Raw, from_floats
from coldfuse.fusion.block import Float64
from coldfuse.fusion.compiling import compiled

Elements = NDArray[np.generic]
"""Raw elements in the type that the kernels read them as."""


_TILE = 2048
"""Elements of a sum that stay in a core's first cache while all rows are added."""


def elements(raw: Raw, dtype: str) -> Elements:
    """View raw little-endian bytes as what the kernels take for this dtype."""
    return raw.view({"F64": np.float64, "F32": np.float32}.get(dtype, np.uint16))


def decode(raw: Raw, dtype: str, out: Float64) -> None:
    """Read raw little-endian elements of a float dtype into `out`, without loss."""
    subtract_rows(raw, dtype, stride=0, first=0, base_N=None, out_CN=out[None])


def subtract_rows(  # a call for all rows of a block: one a row would cost as much as the numbers
    raw: Raw, dtype: str, *, stride: int, first: int, base_N: Float64 | None, out_CN: Float64
) -> bool:
    """Read C rows of elements, and subtract the base from each: out_cn = raw[c · stride + first + n] − base_n.

    Returns False if some difference is not finite.
    """
    base_N = _zeros(out_CN.shape[1]) if base_N is None else base_N
    return bool(_SUBTRACT[dtype](elements(raw, dtype), stride, first, base_N, out_CN))


def sum_rows(
    raw: Raw, dtype: str, *, base: Raw | None, coefficients_C: Float64, divisor: float, sum_N: Float64
) -> None:
    """Sum C rows of N elements without keeping any: sum_n = Σ_c (raw_cn − base_n) · coefficient_c / divisor.

    The base is of the rows' dtype; without one the rows are deltas. Rows with a coefficient of 0 are not looked at.
    """
    flat = elements(raw, dtype)
    start = flat[:0] if base is None else elements(base, dtype)
    _SUM[dtype](flat, start, coefficients_C, divisor, np.empty(_TILE), sum_N)


def add(base: Raw, delta_N: Float64, dtype: str, out: Raw) -> bool:
    """Write base + delta, rounded once; where delta is 0 the base's own bytes. False: some sum is not finite."""
    if dtype in _ADD:
        return bool(_ADD[dtype](elements(base, dtype), delta_N, elements(out, dtype)))
    values = np.empty(len(delta_N))
    decode(base, dtype, values)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = from_floats(values + delta_N, dtype)
    np.copyto(elements(out, dtype), np.where(delta_N == 0, elements(base, dtype), elements(sums, dtype)))
    decode(out, dtype, values)
    return bool(np.isfinite(values).all())


def encode(values: Float64, dtype: str) -> Raw:
    """Round float64 to `dtype` once, to nearest and ties to even, and return the raw little-endian bytes."""
    if dtype != "BF16":
        return from_floats(values, dtype)
    out = np.empty(len(values), np.uint16)
    _encode_bfloat16(values, out)
    return out.view(np.uint8)


@lru_cache(maxsize=4)
def _zeros(count: int) -> Float64:
    zeros = np.zeros(count)
    zeros.flags.writeable = False
    return zeros


@compiled
def _float16(bits: Any) -> Any:
    half = np.uint32(bits)
    shifted = np.uint32((half & np.uint32(0x7FFF)) << np.uint32(13))
    # Exponents of float16 are biased by 15, of float32 by 127; the product also normalises subnormals.
    magnitude = shifted.view(np.float32) * np.float32(2.0**112)
    if half & np.uint32(0x7C00) == np.uint32(0x7C00):  # infinity and NaN
        magnitude = np.uint32(shifted | np.uint32(0x7F800000)).view(np.float32)
    return -magnitude if half & np.uint32(0x8000) else magnitude


@compiled
def _bfloat16(bits: Any) -> Any:
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@compiled
def _to_bfloat16(value: Any) -> Any:
    single = np.float32(value)
    bits = single.view(np.uint32)
    # Where float32 lies exactly between two bfloat16 because it was rounded to there, the float64 decides.
    is_middle = (bits & np.uint32(0xFFFF)) == np.uint32(0x8000)
    exact, middle = abs(value), abs(np.float64(single))
    bits = np.uint32(bits + np.uint32(is_middle & (exact > middle)) - np.uint32(is_middle & (exact < middle)))
    rounded = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return np.uint16(0x7FC0) if np.isnan(single) else np.uint16(rounded >> np.uint32(16))


@compiled
def _encode_bfloat16(values: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = _to_bfloat16(values[i])


# The element type of each kernel is written out: a function passed in would keep numba from storing the code on disk.


@compiled
def _subtract_float(flat: Any, stride: Any, first: Any, base: Any, out: Any) -> Any:
    finite: Any = True
    for c in range(out.shape[0]):
        row, into = flat[c * stride + first :], out[c]
        for n in range(into.size):
            delta = np.float64(row[n]) - base[n]
            finite &= abs(delta) < np.inf
            into[n] = delta
    return finite


@compiled
def _subtract_bfloat16(flat: Any, stride: Any, first: Any, base: Any, out: Any) -> Any:
    finite: Any = True
    for c in range(out.shape[0]):
        row, into = flat[c * stride + first :], out[c]
        for n in range(into.size):
            delta = np.float64(_bfloat16(row[n])) - base[n]
            finite &= abs(delta) < np.inf
            into[n] = delta
    return finite


@compiled
def _subtract_float16(flat: Any, stride: Any, first: Any, base: Any, out: Any) -> Any:
    finite: Any = True
    for c in range(out.shape[0]):
        row, into = flat[c * stride + first :], out[c]
        for n in range(into.size):
            delta = np.float64(_float16(row[n])) - base[n]
            finite &= abs(delta) < np.inf
            into[n] = delta
    return finite


@compiled
def _sum_float(flat: Any, base: Any, coefficients: Any, divisor: Any, tile: Any, total: Any) -> None:
    tile[:] = 0.0
    for first in range(0, total.size, tile.size):
        sums, before = total[first : first + tile.size], base[first:]
        for n in range(min(sums.size, before.size)):
            tile[n] = np.float64(before[n])
        sums[:] = 0.0
        for c in range(coefficients.size):
            if coefficients[c] != 0.0:
                row = flat[c * total.size + first :]
                for n in range(sums.size):
                    sums[n] += (np.float64(row[n]) - tile[n]) * coefficients[c]
        for n in range(sums.size):
            sums[n] /= divisor


@compiled
def _sum_bfloat16(flat: Any, base: Any, coefficients: Any, divisor: Any, tile: Any, total: Any) -> None:
    tile[:] = 0.0
    for first in range(0, total.size, tile.size):
        sums, before = total[first : first + tile.size], base[first:]
        for n in range(min(sums.size, before.size)):
            tile[n] = np.float64(_bfloat16(before[n]))
        sums[:] = 0.0
        for c in range(coefficients.size):
            if coefficients[c] != 0.0:
                row = flat[c * total.size + first :]
                for n in range(sums.size):
                    sums[n] += (np.float64(_bfloat16(row[n])) - tile[n]) * coefficients[c]
        for n in range(sums.size):
            sums[n] /= divisor


@compiled
def _sum_float16(flat: Any, base: Any, coefficients: Any, divisor: Any, tile: Any, total: Any) -> None:
    tile[:] = 0.0
    for first in range(0, total.size, tile.size):
        sums, before = total[first : first + tile.size], base[first:]
        for n in range(min(sums.size, before.size)):
            tile[n] = np.float64(_float16(before[n]))
        sums[:] = 0.0
        for c in range(coefficients.size):
            if coefficients[c] != 0.0:
                row = flat[c * total.size + first :]
                for n in range(sums.size):
                    sums[n] += (np.float64(_float16(row[n])) - tile[n]) * coefficients[c]
        for n in range(sums.size):
            sums[n] /= divisor


@compiled
def _add_float32(base: Any, delta: Any, out: Any) -> Any:
    finite: Any = True
    for n in range(out.size):
        total = np.float32(np.float64(base[n]) + delta[n])
        finite &= abs(total) < np.float32(np.inf)
        out[n] = base[n] if delta[n] == 0.0 else total
    return finite


@compiled
def _add_bfloat16(base: Any, delta: Any, out: Any) -> Any:
    finite = True
    for n in range(out.size):
        total = _to_bfloat16(np.float64(_bfloat16(base[n])) + delta[n])
        finite &= (total & np.uint16(0x7F80)) != np.uint16(0x7F80)
        out[n] = base[n] if delta[n] == 0.0 else total
    return finite


_SUBTRACT = {
    "F64": _subtract_float, "F32": _subtract_float, "BF16": _subtract_bfloat16, "F16": _subtract_float16
}  # fmt: skip
_SUM = {"F64": _sum_float, "F32": _sum_float, "BF16": _sum_bfloat16, "F16": _sum_float16}
_ADD = {"F32": _add_float32, "BF16": _add_bfloat16}
