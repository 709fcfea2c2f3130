"""What a contributor's training did to each tensor, in the form that it has, and how it is written to a delta file.

    write_changes(path, schema, {"q.weight": LowRankChange(up, down, 2.0), "norm.weight": DenseChange(read)}, ...)

A mapping may make a change when it is asked for it: each is asked for twice and let go of, so that no more than one
tensor is held. What changes nothing is left out. A product is written as its factors where they are smaller than the
tensor, and whole otherwise. Letters: O rows, I columns of the tensor seen as a matrix (all dimensions after the first
are one), r rank, K stored elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.blob import Blob
from coldfuse.core.dtypes import Floats
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.deltas import encoded_header, has_changed, write_numbers
from coldfuse.tensors.encodings import DENSE, Encoded, Encoding, LowRank
from coldfuse.tensors.products import Float64, as_matrix, multiply

ReadChange = Callable[[int, int], Float64]
"""read(first, count): return δ of some elements of a tensor, in their order."""


@dataclass(frozen=True)
class DenseChange:
    """δ element by element, as it is asked for."""

    read: ReadChange


@dataclass(frozen=True)
class LowRankChange:
    """δ = scale · up @ down, on the tensor seen as a matrix.

    An element is scale · Σ_k up[o, k] · down[k, i], added in float64 in the order of k.
    """

    up: Floats
    """B, of shape O × r."""
    down: Floats
    """A, of shape r × I."""
    scale: float = 1.0

    @property
    def is_zero(self) -> bool:
        """True where nothing changes, as before the first step of a LoRA."""
        return not (self.scale and self.up.any() and self.down.any())

    def read(self, first: int, count: int) -> Float64:
        """Return δ of some elements."""
        columns = self.down.shape[1]
        row, end = first // columns, -(-(first + count) // columns)
        rows_OI = multiply(self.up[row:end].astype(np.float64), self.down.astype(np.float64))
        return (self.scale * rows_OI).reshape(-1)[first - row * columns :][:count]


@dataclass(frozen=True)
class SparseChange:
    """δ at some elements; all others do not change."""

    indices: NDArray[np.int64]
    """Indices of K elements in the tensor's row-major order, strictly ascending."""
    values: Floats
    """δ of each."""

    def read(self, first: int, count: int) -> Float64:
        """Return δ of some elements."""
        start, end = np.searchsorted(self.indices, (first, first + count))
        delta_N = np.zeros(count)
        delta_N[self.indices[start:end] - first] = self.values[start:end]
        return delta_N


Change = DenseChange | LowRankChange | SparseChange
"""What a training did to one tensor."""


def write_changes(
    path: Path, base: Schema, changes: Mapping[str, Change], *, dtype: Encoding, base_digest: str
) -> Blob:
    """Write a delta file, tensor by tensor, and return its parts.

    Args:
        path: The file to write; it is there whole or not at all.
        base: Dtypes and shapes of the base's tensors.
        changes: Changes by the base's names; integers among the tensors are no weights, and stay out.
        dtype: Dtype to which values and factors are rounded, once.
        base_digest: Model digest of the base, which the delta names.

    Raises:
        SchemaMismatchError: A change does not fit its tensor.
        UserInputError: A change is not finite, or the file cannot be written.
    """
    encoded = {name: found for name in sorted(changes) if (found := _encode(name, base, changes[name]))}
    header = encoded_header(base, encoded, encoding=dtype, base_digest=base_digest)
    sources = {stored: name for name, how in encoded.items() for stored in how.stored(name, base[name], dtype)}
    held: tuple[str, Change] | None = None

    def read(stored: str, first: int, count: int) -> Floats:
        nonlocal held
        name = sources[stored]
        if held is None or held[0] != name:
            held = name, changes[name]
        return _read(held[1], encoded[name], stored.removeprefix(name), first, count)

    return write_numbers(path, header, read)


def _encode(name: str, base: Schema, change: Change) -> Encoded | None:
    """Return how a change is written; None where there is none."""
    spec = base[name]
    if not spec.is_fused:
        return None
    if isinstance(change, SparseChange):
        _check_indices(name, spec, change)
    if not isinstance(change, LowRankChange):
        return DENSE if has_changed(change.read, spec.num_elements) else None
    _check_factors(name, spec, change)
    if change.is_zero:
        return None
    found = LowRank(rank=change.up.shape[1], scale=float(change.scale))
    is_free = not found.stored(name, spec, "F32").keys() & base.keys()
    return found if is_free and found.problem(spec) is None else DENSE


def _check_factors(name: str, spec: TensorSpec, change: LowRankChange) -> None:
    rows, columns = as_matrix(spec.shape)
    rank = change.up.shape[-1]
    if change.up.shape != (rows, rank) or change.down.shape != (rank, columns):
        raise SchemaMismatchError(
            f"tensor {name}: factors of {list(change.up.shape)} and {list(change.down.shape)}, expected "
            f"{rows} × r and r × {columns}"
        )
    if not all(np.isfinite(values).all() for values in (change.up, change.down, change.scale)):
        raise UserInputError(f"tensor {name}: factors that are not finite; train with a lower learning rate")


def _check_indices(name: str, spec: TensorSpec, change: SparseChange) -> None:
    indices, values = change.indices, change.values
    if indices.ndim != 1 or indices.shape != values.shape or (np.diff(indices) <= 0).any():
        raise SchemaMismatchError(f"tensor {name}: expected one value for each of strictly ascending indices")
    if indices.size and not 0 <= indices[0] <= indices[-1] < spec.num_elements:
        raise SchemaMismatchError(
            f"tensor {name}: indices {indices[0]} to {indices[-1]}, the tensor has {spec.num_elements:,} elements"
        )


def _read(change: Change, how: Encoded, part: str, first: int, count: int) -> Floats:
    """Return some elements of one of the tensors that a change is stored as."""
    if how is DENSE or not isinstance(change, LowRankChange):
        return change.read(first, count)
    factor = change.up if part == "|up" else change.down
    return factor.reshape(-1)[first : first + count]
