"""Raw bytes to numbers and back, for the dtypes that can be fused.

numpy has no bfloat16, and every library goes from float64 to it by way of float32, which rounds twice. Here a result is
rounded once: to nearest, ties to even.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Raw = NDArray[np.uint8]

SAFE_CHANGE = {"F16": 16.0, "BF16": 2.0**119, "F32": 2.0**103, "F64": 2.0**970}
"""Changes below which no finite number of a dtype leaves its range: half of the last place of the largest one."""


def to_floats(raw: Raw, dtype: str) -> Floats:
    """Read raw little-endian bytes as float32 (float64 for F64), without loss. F32 and F64 are views of `raw`."""
    match dtype:
        case "BF16":
            wide = raw.view(np.uint16).astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32)
        case "F16":
            return raw.view(np.float16).astype(np.float32)
        case "F32":
            return raw.view(np.float32)
        case "F64":
            return raw.view(np.float64)
    raise ValueError(f"{dtype} is not a dtype that can be fused")


def from_floats(values: Floats, dtype: str) -> Raw:
    """Round to `dtype` once, to nearest and ties to even, and return the raw little-endian bytes."""
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinity; the caller checks
        match dtype:
            case "BF16":
                return _to_bfloat16(values).view(np.uint8)
            case "F16":
                return values.astype(np.float16).view(np.uint8)
            case "F32":
                return values.astype(np.float32).view(np.uint8)
            case "F64":
                return values.astype(np.float64).view(np.uint8)
    raise ValueError(f"{dtype} is not a dtype that can be fused")


def _to_bfloat16(values: Floats) -> NDArray[np.uint16]:
    single = values.astype(np.float32)
    bits = single.view(np.uint32)
    odd = (bits >> 16) & 1
    rounded = ((bits + (0x7FFF + odd)) >> 16).astype(np.uint16)
    if values.dtype == np.float64:
        _mend_double_rounding(rounded, values, single)
    nan = np.isnan(single)
    if nan.any():
        rounded[nan] = 0x7FC0
    return rounded


def _mend_double_rounding(rounded: NDArray[np.uint16], values: Floats, single: NDArray[np.float32]) -> None:
    """Where float32 lies exactly between two bfloat16, let the float64 decide (in place; one element in 65,536)."""
    bits = single.view(np.uint32)
    # Exact ties are common (few inputs of few bits); those that float32 made are not.
    (ties,) = np.nonzero(((bits & 0xFFFF) == 0x8000) & (single != values))
    exact, middle = np.abs(values[ties]), np.abs(single[ties]).astype(np.float64)
    below = (bits[ties] >> 16).astype(np.uint16)
    rounded[ties[exact > middle]] = below[exact > middle] + 1
    rounded[ties[exact < middle]] = below[exact < middle]
