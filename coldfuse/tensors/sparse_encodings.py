"""Deltas of single elements, with their places or at those of a mask (`encodings`, `index_codes`, `masks`).

Letters: K stored elements, N elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.encodings import AddProduct, ReadPart, part_name
from coldfuse.tensors.index_codes import IndexCode
from coldfuse.tensors.products import Float64, add_product


@dataclass(frozen=True)
class Sparse:
    """δ at some elements, and 0 at all others."""

    count: int
    """Number of elements that are stored."""
    kind: ClassVar[str] = "sparse"
    parts: ClassVar[tuple[str, ...]] = ("indices", "values")
    mask_parts: ClassVar[tuple[str, ...]] = ()

    def said(self) -> object:
        """Return the kind and the number of elements."""
        return {"kind": self.kind, "count": self.count}

    def stored(self, name: str, spec: TensorSpec, dtype: str) -> Mapping[str, TensorSpec]:
        """Return the values, and the code of their indices."""
        code = IndexCode(spec.num_elements, self.count)
        return {
            part_name(name, "indices"): TensorSpec(dtype="U8", shape=(code.size_bytes,)),
            part_name(name, "values"): TensorSpec(dtype=dtype, shape=(self.count,)),
        }

    def problem(self, spec: TensorSpec) -> str | None:
        """Return why a tensor cannot be stored so: it must have more elements than are stored."""
        if self.count < spec.num_elements:
            return None
        return f"{self.count:,} elements and their indices, and it has {spec.num_elements:,}; send it dense"

    def delta(
        self,
        shape: tuple[int, ...],
        read: ReadPart,
        first: int,
        count: int,
        *,
        add: AddProduct = add_product,  # noqa: ARG002
    ) -> Float64:
        """Return some elements: those that are stored, among zeros."""
        code = IndexCode(math.prod(shape), self.count)
        before, indices_K = code.decode(partial(read, "indices"), first, count)
        delta_N = np.zeros(count)
        delta_N[indices_K - first] = read("values", before, len(indices_K))
        return delta_N


@dataclass(frozen=True)
class Masked(Sparse):
    """δ at the elements of a mask, and 0 at all others."""

    kind: ClassVar[str] = "masked"
    parts: ClassVar[tuple[str, ...]] = ("values",)
    mask_parts: ClassVar[tuple[str, ...]] = ("indices",)

    def stored(self, name: str, spec: TensorSpec, dtype: str) -> Mapping[str, TensorSpec]:
        """Return the values alone."""
        whole = super().stored(name, spec, dtype)
        return {part_name(name, part): whole[part_name(name, part)] for part in self.parts}

    def in_mask(self, name: str, spec: TensorSpec) -> Mapping[str, TensorSpec]:
        """Return what the mask holds of it."""
        whole = super().stored(name, spec, "F32")
        return {part_name(name, part): whole[part_name(name, part)] for part in self.mask_parts}
