"""Raw elements to float64 and back: decode, subtract the base, sum, and round once.

Each is written twice: in operations of numpy, a tile at a time, and as a loop that numba compiles for the type of the
elements, which is three times faster. Which one runs is a question of time alone (`compiling.pays`): both give the same
bits, those of `core.dtypes`.

Letters: C contributions, N elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import Raw, from_floats, to_floats
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.fusion.block import Float64
from coldfuse.fusion.compiling import chosen_by_type, compiled, pays

Elements = NDArray[np.generic]
"""Raw elements in the type that the kernels know them by."""

_ELEMENTS = {"F64": np.float64, "F32": np.float32, "BF16": np.uint16, "F16": np.int16}
"""What stands for each dtype: numba knows neither of the narrow ones."""

_TILE = 2048
"""Number of elements of a sum that stay in a core's first cache while all rows are added."""

_NUMPY_TILE = 1 << 14
"""Number of elements that numpy takes at a time: they stay in the second cache, and a call costs as much as 500."""


def decode(raw: Raw, dtype: str, out: Float64) -> None:
    """Read raw little-endian elements of a float dtype into `out`, without loss."""
    subtract_rows(raw, dtype, base_N=None, out_CN=out[None])


def subtract_rows(raw: Raw, dtype: str, *, base_N: Float64 | None, out_CN: Float64) -> bool:
    """Read C rows of elements, and subtract the base from each; return False if some difference is not finite.

    A call for all rows of a block, as one a row would cost as much as the numbers.

    Args:
        raw: The rows' little-endian bytes, one after the other.
        dtype: What the bytes are.
        base_N: θ_t; the rows are deltas if there is none.
        out_CN: Where the differences go.
    """
    if pays(out_CN.size):
        return bool(_subtract(elements(raw, dtype), _zeros(out_CN.shape[1]) if base_N is None else base_N, out_CN))
    return _subtract_by_numpy(raw, dtype, base_N, out_CN)


def sum_rows(  # noqa: PLR0913
    raw: Raw,
    dtype: str,
    *,
    base: Raw | None,
    coefficients_C: Float64,
    divisor: float,
    sum_N: Float64,
    start_N: Float64 | None = None,
) -> None:
    """Sum C rows of elements without keeping any: sum_n = (start_n + Σ_c (raw_cn − base_n) · coefficient_c) / divisor.

    Args:
        raw: The rows' little-endian bytes, one after the other.
        dtype: What the bytes are.
        base: θ_t in the rows' dtype; the rows are deltas if there is none.
        coefficients_C: One a row; rows with a coefficient of 0 are not looked at.
        divisor: What the sum is divided by.
        sum_N: Where the sum goes.
        start_N: What the sum starts from, instead of 0.
    """
    if not pays(coefficients_C.size * sum_N.size):
        _sum_by_numpy(raw, dtype, base, coefficients_C, divisor, sum_N, start_N)
        return
    flat = elements(raw, dtype)
    before = flat[:0] if base is None else elements(base, dtype)
    start_N = sum_N[:0] if start_N is None else start_N
    _sum(flat, before, coefficients_C, float(divisor), np.empty(_TILE), start_N, sum_N)


def add(base: Raw, delta_N: Float64, dtype: str, out: Raw) -> bool:
    """Write base + delta, rounded once; where delta is 0 the base's own bytes. False: some sum is not finite."""
    if pays(delta_N.size):
        return bool(_add(elements(base, dtype), delta_N, elements(out, dtype)))
    return _add_by_numpy(base, delta_N, dtype, out)


def elements(raw: Raw, dtype: str) -> Elements:
    """View raw little-endian bytes as what stands for them in compiled code."""
    return raw.view(_ELEMENTS[dtype])


@lru_cache(maxsize=4)
def _zeros(count: int) -> Float64:
    zeros = np.zeros(count)
    zeros.flags.writeable = False
    return zeros


def _subtract_by_numpy(raw: Raw, dtype: str, base_N: Float64 | None, out_CN: Float64) -> bool:
    is_finite = True
    with np.errstate(over="ignore", invalid="ignore"):
        for row, out_N in zip(_rows(raw, len(out_CN)), out_CN, strict=True):
            for run, places in _tiles(out_N.size, dtype):
                before = 0.0 if base_N is None else base_N[run]
                delta = np.subtract(to_floats(row[places], dtype), before, out=out_N[run], dtype=np.float64)
                is_finite = is_finite and bool(np.isfinite(delta).all())
    return is_finite


def _sum_by_numpy(  # noqa: PLR0913
    raw: Raw,
    dtype: str,
    base: Raw | None,
    coefficients_C: Float64,
    divisor: float,
    sum_N: Float64,
    start_N: Float64 | None,
) -> None:
    rows, tile = _rows(raw, len(coefficients_C)), np.empty(_NUMPY_TILE)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for run, places in _tiles(sum_N.size, dtype):
            sums = sum_N[run]
            sums[:] = 0.0 if start_N is None else start_N[run]
            before = 0.0 if base is None else to_floats(base[places], dtype).astype(np.float64)
            for row, coefficient in zip(rows, coefficients_C.tolist(), strict=True):
                if coefficient:
                    values = to_floats(row[places], dtype)
                    delta = np.subtract(values, before, out=tile[: sums.size], dtype=np.float64)
                    sums += delta if coefficient == 1 else np.multiply(delta, coefficient, out=delta)
            sums /= divisor


def _add_by_numpy(base: Raw, delta_N: Float64, dtype: str, out: Raw) -> bool:
    is_finite = True
    with np.errstate(over="ignore", invalid="ignore"):
        for run, places in _tiles(delta_N.size, dtype):
            delta = delta_N[run]
            total = from_floats(np.add(to_floats(base[places], dtype), delta, dtype=np.float64), dtype)
            is_finite = is_finite and bool(np.isfinite(to_floats(total, dtype)).all())
            is_moved = delta != 0
            np.copyto(out[places], base[places])
            np.copyto(elements(out[places], dtype), elements(total, dtype), where=is_moved)
    return is_finite


def _rows(raw: Raw, count: int) -> NDArray[np.uint8]:
    return raw.reshape(count, -1)


def _tiles(count: int, dtype: str) -> Iterator[tuple[slice, slice]]:
    """Yield runs of elements, and where their bytes lie."""
    item = ITEM_BYTES[dtype]
    for first in range(0, count, _NUMPY_TILE):
        end = min(first + _NUMPY_TILE, count)
        yield slice(first, end), slice(first * item, end * item)


# Compiled. Function arguments would keep numba from storing the code on disk; functions chosen by type do not.


def _from_float(element: Any) -> Any:
    return np.float64(element)


def _from_bfloat16(element: Any) -> Any:
    return np.float64(np.uint32(np.uint32(element) << np.uint32(16)).view(np.float32))


def _from_float16(element: Any) -> Any:
    half = np.uint32(np.uint16(element))
    shifted = np.uint32((half & np.uint32(0x7FFF)) << np.uint32(13))
    # Exponents of float16 are biased by 15, of float32 by 127; the product also normalises subnormals.
    finite = shifted.view(np.float32) * np.float32(2.0**112)
    infinite = np.uint32(shifted | np.uint32(0x7F800000)).view(np.float32)  # or NaN
    size = infinite if shifted >= np.uint32(0x7C00 << 13) else finite
    return np.float64(-size if half & np.uint32(0x8000) else size)


def _to_float64(value: Any, like: Any) -> Any:  # noqa: ARG001  # numba matches arguments by name
    return value


def _to_float32(value: Any, like: Any) -> Any:  # noqa: ARG001
    return np.float32(value)


def _to_bfloat16(value: Any, like: Any) -> Any:  # noqa: ARG001
    single = np.float32(value)
    bits = single.view(np.uint32)
    # Where float32 lies exactly between two bfloat16 because it was rounded to there, the float64 decides.
    is_middle = (bits & np.uint32(0xFFFF)) == np.uint32(0x8000)
    exact, middle = abs(value), abs(np.float64(single))
    bits = np.uint32(bits + np.uint32(is_middle & (exact > middle)) - np.uint32(is_middle & (exact < middle)))
    rounded = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return np.uint16(0x7FC0) if np.isnan(single) else np.uint16(rounded >> np.uint32(16))


def _to_float16(value: Any, like: Any) -> Any:  # noqa: ARG001
    size = abs(np.float64(value))
    bits = np.float64(size).view(np.uint64)
    # Half a unit, less one where the last bit is even, carries into the exponent where the mantissa overflows.
    carry = np.uint64((1 << 41) - 1) + ((bits >> np.uint64(42)) & np.uint64(1))
    normal = np.int64((bits + carry) >> np.uint64(42)) - np.int64((1023 - 15) << 10)
    # The sum's last bit is worth 2⁻²⁴, a subnormal's unit: the addition rounds to it.
    subnormal = np.int64(((size + 1.5 * 2.0**28) - 1.5 * 2.0**28) * 2.0**24)
    finite = subnormal if size < 2.0**-14 else normal
    infinite = np.int64(0x7C00 if size >= 65520.0 else 0x7E00)  # or NaN
    sign = np.int64(0x8000 if np.signbit(value) else 0)
    return np.int16((finite if size < 65520.0 else infinite) | sign)


def _widening(element: Any) -> Any:
    return {"uint16": _from_bfloat16, "int16": _from_float16}.get(str(element), _from_float)


def _rounding(value: Any, like: Any) -> Any:  # noqa: ARG001
    choices = {"uint16": _to_bfloat16, "int16": _to_float16, "float32": _to_float32}
    return choices.get(str(like), _to_float64)


@chosen_by_type(_widening)
def wide(element: Any) -> Any:
    """Return an element in float64."""
    raise NotImplementedError(f"{element}: for compiled code")


@chosen_by_type(_rounding)
def _rounded(value: Any, like: Any) -> Any:
    """Return float64 as an element of the other's type, rounded once: to nearest, ties to even."""
    raise NotImplementedError(f"{value}, {like}: for compiled code")


@compiled
def _subtract(flat: Any, base: Any, out: Any) -> Any:
    finite: Any = True
    for c in range(out.shape[0]):
        into = out[c]
        row = flat[c * into.size :]
        for n in range(into.size):
            delta = wide(row[n]) - base[n]
            finite &= abs(delta) < np.inf
            into[n] = delta
    return finite


@compiled
def _sum(flat: Any, base: Any, coefficients: Any, divisor: Any, tile: Any, start: Any, total: Any) -> None:  # noqa: PLR0913
    tile[:] = 0.0
    for first in range(0, total.size, tile.size):
        sums, before, initial = total[first : first + tile.size], base[first:], start[first:]
        for n in range(min(sums.size, before.size)):
            tile[n] = wide(before[n])
        sums[:] = 0.0
        for n in range(min(sums.size, initial.size)):
            sums[n] = initial[n]
        for c in range(coefficients.size):
            if coefficients[c] != 0.0:
                row = flat[c * total.size + first :]
                for n in range(sums.size):
                    sums[n] += (wide(row[n]) - tile[n]) * coefficients[c]
        for n in range(sums.size):
            sums[n] /= divisor


@compiled
def _add(base: Any, delta: Any, out: Any) -> Any:
    finite: Any = True
    for n in range(out.size):
        total = _rounded(wide(base[n]) + delta[n], base[n])
        finite &= abs(wide(total)) < np.inf
        out[n] = base[n] if delta[n] == 0.0 else total
    return finite
