"""Names, shapes and dtypes of a model's tensors, and which of them may be fused.

The rules: float tensors are fused. All others, integers and booleans (`position_ids`, `num_batches_tracked`), complex
numbers and floats of 8 bits and less, never are (`coldfuse fuse` reads FP8 with scales as BF16): they stay as the base
has them, no delta may carry them, and models to be fused must agree on those that they have, unless they only count
training steps (`num_batches_tracked`). A 0-d tensor is one element; an empty tensor has no element, travels in no delta
and stays as it is. Tied weights are one tensor, under the name that the base's files store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from coldfuse.core.value import Value

_ITEM_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits per element of the dtypes that safetensors 0.8 names; those below a byte are packed."""

DTYPES = frozenset(_ITEM_BITS)
"""All dtypes that a tensor may have."""

ITEM_BYTES = {dtype: bits // 8 for dtype, bits in _ITEM_BITS.items() if bits % 8 == 0}
"""Bytes per element of the dtypes whose elements are whole bytes; those of all dtypes that can be fused are."""

INTEGER_DTYPES = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
"""Dtypes of tensors that are never fused: positions, counters and masks."""

FUSED_DTYPES = frozenset({"F16", "BF16", "F32", "F64"})
"""Dtypes that have deltas. Floats of 8 bits and less have scales beside them, and complex numbers are tables that a
model computes: they stay as in the base."""

MAX_DIMENSIONS = 64
"""Maximum number of dimensions, PyTorch's own; without one, multiplying a hostile list of sizes takes hours."""


def size_of(dtype: str, num_elements: int) -> int:
    """Return the bytes that some elements take, which lie packed if they are smaller than a byte.

    >>> size_of("F32", 3), size_of("F4", 6)
    (12, 3)
    """
    return num_elements * _ITEM_BITS[dtype] // 8


def is_whole_bytes(dtype: str, num_elements: int) -> bool:
    """Tell whether some elements end with a byte, as a tensor has to."""
    return num_elements * _ITEM_BITS[dtype] % 8 == 0


def elements_in(dtype: str, num_bytes: int) -> int:
    """Return how many elements fit into so many bytes; of packed ones, how many fill a multiple of them exactly.

    >>> elements_in("F32", 17), elements_in("F4", 16), elements_in("F6_E2M3", 16)
    (4, 32, 64)
    """
    bits = _ITEM_BITS[dtype]
    return num_bytes * 8 // bits if bits % 8 == 0 else math.lcm(num_bytes * 8, bits) // bits


Size = Annotated[int, Field(ge=0, lt=2**63, strict=True)]


class TensorSpec(Value):
    """One tensor's dtype and shape."""

    dtype: str
    """Name of the dtype in safetensors, such as F32."""
    shape: Annotated[tuple[Size, ...], Field(max_length=MAX_DIMENSIONS)]
    """Size of each dimension; empty for a single number."""

    @property
    def num_elements(self) -> int:
        """Number of elements; 1 for a 0-d tensor."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Number of bytes of the tensor's data."""
        return size_of(self.dtype, self.num_elements)

    @property
    def is_fused(self) -> bool:
        """True where the tensor may have a delta."""
        return self.dtype in FUSED_DTYPES and self.num_elements > 0


Schema = Mapping[str, TensorSpec]
"""A model's tensors by name."""
