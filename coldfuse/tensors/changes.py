"""What a contributor's training did to each tensor, in the form that it has, and how it is written to a delta file.

    write_changes(path, schema, {"q.weight": LowRankChange(up, down, 2.0), "norm.weight": DenseChange(read)}, ...)

A mapping may make a change when it is asked for it: each is asked for twice and let go of, so that no more than one
tensor is held. What changes nothing is left out. A product is written as its factors where they are smaller than the
tensor, and whole otherwise; so are some of its elements, and those of a mask are written without their indices.
Letters: O rows, I columns of the tensor seen as a matrix (all dimensions after the first are one), r rank, K stored
elements, N elements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coldfuse.core.blob import Blob
from coldfuse.core.dtypes import Floats, Raw
from coldfuse.core.schema import Schema, TensorSpec, size_of
from coldfuse.durable import explained, make_folder
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.deltas import encoded_header, has_changed, mask_name, write_numbers
from coldfuse.tensors.encodings import DENSE, Encoded, Encoding, LowRank, part_of
from coldfuse.tensors.index_codes import IndexCode
from coldfuse.tensors.masks import Indices, Mask, check_indices, open_mask, read_indices, write_mask
from coldfuse.tensors.products import Float64, as_matrix, multiply
from coldfuse.tensors.sparse_encodings import Masked, Sparse

_KEPT_MASKS = 2
"""Number of masks that stay in a folder: what was made with the one before may still be sent."""

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

    indices: Indices
    """Indices of K elements in the tensor's row-major order, strictly ascending."""
    values: Floats
    """δ of each."""
    is_fixed: bool = False
    """True where the same elements change in many rounds, so that a mask of them is worth sending once."""

    def read(self, first: int, count: int) -> Float64:
        """Return δ of some elements."""
        start, end = np.searchsorted(self.indices, (first, first + count))
        delta_N = np.zeros(count)
        delta_N[self.indices[start:end] - first] = self.values[start:end]
        return delta_N


Change = DenseChange | LowRankChange | SparseChange
"""What a training did to one tensor."""


class _Fixed(Mapping[str, Indices]):
    """The elements of those changes that are fixed, made when they are asked for."""

    def __init__(self, changes: Mapping[str, Change]) -> None:
        self._changes = changes
        self._names = [
            name for name in changes if isinstance(change := changes[name], SparseChange) and change.is_fixed
        ]

    def __getitem__(self, name: str) -> Indices:
        change = self._changes[name]
        if not isinstance(change, SparseChange):
            raise KeyError(name)
        return change.indices

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def fixed_mask(folder: Path, base: Schema, changes: Mapping[str, Change]) -> Mask | None:
    """Return the mask of the changes whose elements are fixed; None where none are.

    It lies in the folder under the name that its digest gives it: the same elements are the same file, round after
    round. Of others the latest stays.

    Args:
        folder: The folder of masks.
        base: Dtypes and shapes of the base's tensors.
        changes: Changes by the base's names.

    Raises:
        SchemaMismatchError: A change does not fit its tensor.
        UserInputError: The folder cannot be written.
    """
    fixed = _Fixed(changes)
    if not fixed:
        return None
    made = folder / "making"
    with explained(folder):
        make_folder(folder)
        write_mask(made, base, fixed)
        path = folder / mask_name(open_mask(made).digest)
        made.replace(path)
        masks = sorted(folder.glob(mask_name("*")), key=lambda found: found.stat().st_mtime_ns)
        for old in masks[:-_KEPT_MASKS]:
            old.unlink()
    return open_mask(path)


class ChangesByName(Mapping[str, Change]):
    """Changes that are made when they are asked for, and not kept."""

    def __init__(self, names: Collection[str], make: Callable[[str], Change]) -> None:
        """Take the tensors' names, and what makes the change of one."""
        self._names, self._make = names, make

    def __getitem__(self, name: str) -> Change:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write_changes(
    path: Path,
    base: Schema,
    changes: Mapping[str, Change],
    *,
    dtype: Encoding,
    base_digest: str,
    mask: Mask | None = None,
) -> Blob:
    """Write a delta file, tensor by tensor, and return its parts.

    Args:
        path: The file to write; it is there whole or not at all.
        base: Dtypes and shapes of the base's tensors.
        changes: Changes by the base's names; integers among the tensors are no weights, and stay out.
        dtype: Dtype to which values and factors are rounded, once.
        base_digest: Model digest of the base, which the delta names.
        mask: The mask that is sent beside the delta: sparse changes at just its elements are written without indices.

    Raises:
        SchemaMismatchError: A change does not fit its tensor.
        UserInputError: A change is not finite, or the file cannot be written.
    """
    choice = _Choice(base, dtype, mask)
    encoded = {name: found for name in sorted(changes) if (found := choice.of(name, changes[name]))}
    uses_mask = mask if any(isinstance(how, Masked) for how in encoded.values()) else None
    header = encoded_header(
        base, encoded, encoding=dtype, base_digest=base_digest, mask_digest=uses_mask.digest if uses_mask else None
    )
    sources = {stored: name for name, how in encoded.items() for stored in how.stored(name, base[name], dtype)}
    held: tuple[str, Change] | None = None

    def read(stored: str, first: int, count: int) -> Floats | Raw:
        nonlocal held
        name = sources[stored]
        if held is None or held[0] != name:
            held = name, changes[name]
        return _read(held[1], part_of(stored, name), base[name], first, count)

    return write_numbers(path, header, read)


@dataclass(frozen=True)
class _Choice:
    """How changes of a base's tensors are written: in the smallest form that they have."""

    base: Schema
    dtype: Encoding
    mask: Mask | None

    def of(self, name: str, change: Change) -> Encoded | None:
        """Return how a change is written; None where there is none."""
        spec = self.base[name]
        if not spec.is_fused:
            return None
        match change:
            case LowRankChange():
                _check_factors(name, spec, change)
                if change.is_zero:
                    return None
                return self._smaller(name, LowRank(rank=change.up.shape[1], scale=float(change.scale)))
            case SparseChange():
                _check_values(name, spec, change)
                if not change.values.any():
                    return None
                kind = Masked if self._is_masked(name, change) else Sparse
                return self._smaller(name, kind(len(change.values)))
        return DENSE if has_changed(change.read, spec.num_elements) else None

    def _smaller(self, name: str, how: Encoded) -> Encoded:
        spec = self.base[name]
        if how.problem(spec) is not None:
            return DENSE
        stored = how.stored(name, spec, self.dtype)
        size = sum(part.size_bytes for part in stored.values())
        is_smaller = size < size_of(self.dtype, spec.num_elements)
        return how if is_smaller and not stored.keys() & self.base.keys() else DENSE

    def _is_masked(self, name: str, change: SparseChange) -> bool:
        mask = self.mask
        if mask is None or mask.counts.get(name) != len(change.indices):
            return False
        return np.array_equal(read_indices(mask, name, self.base[name].num_elements), change.indices)


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


def _check_values(name: str, spec: TensorSpec, change: SparseChange) -> None:
    check_indices(name, change.indices, spec.num_elements)
    if change.indices.shape != change.values.shape:
        raise SchemaMismatchError(
            f"tensor {name}: {change.values.size:,} values, expected one for each of {change.indices.size:,} indices"
        )
    if not np.isfinite(change.values).all():
        raise UserInputError(f"tensor {name}: values that are not finite; train with a lower learning rate")


def _read(change: Change, part: str, spec: TensorSpec, first: int, count: int) -> Floats | Raw:
    """Return some elements of one of the tensors that a change is stored as."""
    match change, part:
        case LowRankChange(up=up), "up":
            return up.reshape(-1)[first : first + count]
        case LowRankChange(down=down), "down":
            return down.reshape(-1)[first : first + count]
        case SparseChange(values=values), "values":
            return values[first : first + count]
        case SparseChange(indices=indices), "indices":
            return IndexCode(spec.num_elements, len(indices)).encode(indices)[first : first + count]
    return change.read(first, count)
