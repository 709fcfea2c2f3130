"""Names, shapes and dtypes of a model's tensors, and which of them may be fused.

The rules: float tensors are fused. Integer and boolean tensors (`position_ids`, `num_batches_tracked`) never are: they
stay as the base has them, no delta may carry them, and models to be fused must agree on those that they have, unless
they only count training steps (`num_batches_tracked`). A 0-d tensor is one element; an empty tensor has no element,
travels in no delta and stays as it is. Tied weights are one tensor, under the name that the base's files store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from coldfuse.core.value import Value

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes per element of the dtypes that safetensors names."""

INTEGER_DTYPES = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
"""Dtypes of tensors that are never fused: positions, counters and masks."""

FUSED_DTYPES = frozenset({"F16", "BF16", "F32", "F64"})
"""Dtypes that have deltas. 8-bit floats have scales of their own beside them: they stay as in the base."""

MAX_DIMENSIONS = 64
"""Maximum number of dimensions, PyTorch's own; without one, multiplying a hostile list of sizes takes hours."""

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
        return self.num_elements * ITEM_BYTES[self.dtype]

    @property
    def is_fused(self) -> bool:
        """True where the tensor may have a delta."""
        return self.dtype in FUSED_DTYPES and self.num_elements > 0


Schema = Mapping[str, TensorSpec]
"""A model's tensors by name."""
