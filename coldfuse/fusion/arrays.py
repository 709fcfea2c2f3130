"""What a formula needs to take the arrays of any library, and to get the same bits from all of them.

A block on a GPU holds torch's arrays; see `Method.on_device`. IEEE 754 rounds a sum, a product, a quotient and a root
in one way, so that a formula which makes the same of them in the same order has the same bits everywhere. Of numpy's
arrays, a compiled kernel does in one pass what takes several such operations.
"""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from coldfuse.fusion.block import Array


def is_numpy(array: Array) -> bool:
    """Whether the array lies on the CPU, where a compiled kernel may have it."""
    return isinstance(array, np.ndarray)


def namespace(*arrays: Array) -> Any:
    """Return the functions of the array API standard for these arrays."""
    return array_api_compat.array_namespace(*arrays)


def divide(array: Array, divisor: float) -> Array:
    """Divide by a number: on a GPU, torch would multiply by its reciprocal, rounded, unless it is an array there."""
    if is_numpy(array):
        return array / divisor
    xp = namespace(array)
    return array / xp.full((1,), divisor, dtype=array.dtype, device=array_api_compat.device(array))


def sizes(array: Array) -> Array:
    """Return float32(|x|), by which entries are ranked and trimmed."""
    xp = namespace(array)
    return xp.astype(xp.abs(array), xp.float32)
