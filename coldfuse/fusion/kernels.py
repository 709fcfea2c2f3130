"""Raw elements to float64 and back, in one pass over a block that stays in the processor's cache.

numpy needs two to five passes for each of these: decoding bfloat16 takes it 0.20 ns an element, and 0.08 ns here. The
functions compile when they are first called, in about 0.2 s, and numba keeps the result on disk. They do exactly what
`core.dtypes` does; a test compares them bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np

from coldfuse.core.dtypes import Raw, from_floats
from coldfuse.fusion.block import Float64

Kernel = Callable[[Any, Any], None]
"""(from, to): arrays of the same length."""


def _compiled(function: Kernel) -> Kernel:
    """Compile without the interpreter's lock; keep the machine code on disk where there is a place for it."""
    try:
        return cast(Kernel, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # neither the package's folder nor a user's cache folder can be written
        return cast(Kernel, numba.njit(nogil=True)(function))


def decode(raw: Raw, dtype: str, out: Float64) -> None:
    """Read raw little-endian elements of a float dtype into `out`, without loss."""
    match dtype:
        case "F32":
            _decode_float32(raw.view(np.float32), out)
        case "BF16":
            _decode_bfloat16(raw.view(np.uint16), out)
        case "F16":
            _decode_float16(raw.view(np.uint16), out)
        case _:
            out[:] = raw.view(np.float64)


def encode(values: Float64, dtype: str) -> Raw:
    """Round float64 to `dtype` once, to nearest and ties to even, and return the raw little-endian bytes."""
    if dtype != "BF16":
        return from_floats(values, dtype)
    out = np.empty(len(values), np.uint16)
    _encode_bfloat16(values, out)
    return out.view(np.uint8)


@_compiled
def _decode_float32(values: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = values[i]


@_compiled
def _decode_bfloat16(bits: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = np.uint32(np.uint32(bits[i]) << np.uint32(16)).view(np.float32)


@_compiled
def _decode_float16(bits: Any, out: Any) -> None:
    for i in range(out.size):
        half = np.uint32(bits[i])
        shifted = np.uint32((half & np.uint32(0x7FFF)) << np.uint32(13))
        # Exponents of float16 are biased by 15, of float32 by 127; the product also normalises subnormals.
        magnitude = shifted.view(np.float32) * np.float32(2.0**112)
        if half & np.uint32(0x7C00) == np.uint32(0x7C00):  # infinity and NaN
            magnitude = np.uint32(shifted | np.uint32(0x7F800000)).view(np.float32)
        out[i] = -magnitude if half & np.uint32(0x8000) else magnitude


@_compiled
def _encode_bfloat16(values: Any, out: Any) -> None:
    for i in range(out.size):
        single = np.float32(values[i])
        bits = single.view(np.uint32)
        if (bits & np.uint32(0xFFFF)) == np.uint32(0x8000):
            # float32 lies exactly between two bfloat16; where it was rounded to there, the float64 decides.
            exact, middle = abs(values[i]), abs(np.float64(single))
            if exact > middle:
                bits = np.uint32(bits + np.uint32(1))
            elif exact < middle:
                bits = np.uint32(bits - np.uint32(1))
        rounded = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
        out[i] = np.uint16(0x7FC0) if np.isnan(single) else np.uint16(rounded >> np.uint32(16))
