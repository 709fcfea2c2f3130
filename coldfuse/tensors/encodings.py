"""The forms in which a delta holds a tensor's change, and the tensors that it stores for each.

    dense      δ itself, under the tensor's own name
    low-rank   "<name>|up" (O × r) and "<name>|down" (r × I); an element is scale · Σ_k up[o, k] · down[k, i], added in
               float64 in the order of k. The tensor is seen as a matrix: all dimensions after the first are one, so a
               convolution is O × I·height·width, and GPT-2's Conv1D is as it is stored, inputs × outputs

    sparse     "<name>|values" (K) and "<name>|indices", the code (`index_codes`) of the K elements that change
    masked     "<name>|values" (K) alone: the indices are those of a mask, a file of its own (`masks`) that is sent once
               and used by many contributions

Values and factors are of the delta's dtype. Factors are taken only where they are smaller than the tensor, and of a
bounded rank, so that what it costs to expand them is never out of proportion to the base.

Letters: O rows, I columns of a tensor seen as a matrix, K rank or stored elements, N elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.products import Float64, add_product, as_matrix

Encoding = Literal["F32", "BF16", "F16"]
"""Dtype in which a delta's numbers are written."""

ENCODINGS = ("F32", "BF16", "F16")

_MARK = "|"
"""What stands between a tensor's name and the part of its change that a stored tensor is."""

MAX_RANK = 512
"""Largest rank of factors: an element takes as many additions. What has more is sent dense."""

WIDE = 1 << 16
"""Number of columns beyond which a row is expanded in pieces, and number of a factor's elements that are asked for at
once: what is held to expand some elements depends on neither the tensor's shape nor its rank."""

ReadPart = Callable[[str, int, int], NDArray[Any]]
"""read(part, first, count): return `count` elements of a stored part from index `first` on; floats in float64, and
bytes as they are."""


AddProduct = Callable[[Float64, Float64, Float64], None]
"""add(sum, left, right): add a product to a sum in place, as `products.add_product` does, bit by bit."""


class Encoded(Protocol):
    """How one tensor's change is stored."""

    kind: ClassVar[str]
    """Name of the encoding."""
    parts: ClassVar[tuple[str, ...]]
    """Names of the parts that the delta stores; "" for the tensor itself."""
    mask_parts: ClassVar[tuple[str, ...]]
    """Names of the parts that its mask stores."""

    def said(self) -> object:
        """Return what the file's metadata say of it, as JSON."""
        ...

    def stored(self, name: str, spec: TensorSpec, dtype: str) -> Mapping[str, TensorSpec]:
        """Return the tensors that are stored for it.

        Args:
            name: The base's name of the tensor.
            spec: The base's tensor.
            dtype: Dtype of the delta's numbers.
        """
        ...

    def problem(self, spec: TensorSpec, /) -> str | None:
        """Return why a tensor of the base cannot be stored so; None if it can."""
        ...

    def delta(
        self, shape: tuple[int, ...], read: ReadPart, first: int, count: int, *, add: AddProduct = add_product
    ) -> Float64:
        """Return δ of some elements, with the same bits whatever others are asked for.

        It may hold NaN or infinity, which is the caller's to refuse.

        Args:
            shape: The base's tensor's.
            read: Reads what is stored, by the part's name; "" is the tensor's own.
            first: Index of the first element.
            count: Number of elements.
            add: Adds products.
        """
        ...


@dataclass(frozen=True)
class Dense:
    """δ itself."""

    kind: ClassVar[str] = "dense"
    parts: ClassVar[tuple[str, ...]] = ("",)
    mask_parts: ClassVar[tuple[str, ...]] = ()

    def said(self) -> object:
        """Return the name alone."""
        return self.kind

    def stored(self, name: str, spec: TensorSpec, dtype: str) -> Mapping[str, TensorSpec]:
        """Return one tensor, of the base's shape."""
        return {name: TensorSpec(dtype=dtype, shape=spec.shape)}

    def problem(self, _spec: TensorSpec) -> str | None:
        """Return None: every tensor can be stored so."""
        return None

    def delta(
        self,
        _shape: tuple[int, ...],
        read: ReadPart,
        first: int,
        count: int,
        *,
        add: AddProduct = add_product,  # noqa: ARG002
    ) -> Float64:
        """Return the stored elements."""
        found: Float64 = read("", first, count)
        return found


@dataclass(frozen=True)
class LowRank:
    """δ = scale · up @ down."""

    rank: int
    """Number of columns of `up` and of rows of `down`."""
    scale: float
    kind: ClassVar[str] = "low-rank"
    parts: ClassVar[tuple[str, ...]] = ("up", "down")
    mask_parts: ClassVar[tuple[str, ...]] = ()

    def said(self) -> object:
        """Return the kind, the rank and the scale."""
        return {"kind": self.kind, "rank": self.rank, "scale": self.scale}

    def stored(self, name: str, spec: TensorSpec, dtype: str) -> Mapping[str, TensorSpec]:
        """Return the two factors."""
        rows, columns = as_matrix(spec.shape)
        return {
            part_name(name, "up"): TensorSpec(dtype=dtype, shape=(rows, self.rank)),
            part_name(name, "down"): TensorSpec(dtype=dtype, shape=(self.rank, columns)),
        }

    def problem(self, spec: TensorSpec) -> str | None:
        """Return why a tensor cannot be stored so: factors that are as large as it say nothing that it does not."""
        rows, columns = as_matrix(spec.shape)
        if self.rank > MAX_RANK:
            return f"factors of rank {self.rank}, at most {MAX_RANK} is taken; send it dense"
        if self.rank * (rows + columns) >= rows * columns:
            return f"factors of rank {self.rank} are no smaller than the {rows} × {columns} tensor; send it dense"
        return None

    def delta(
        self, shape: tuple[int, ...], read: ReadPart, first: int, count: int, *, add: AddProduct = add_product
    ) -> Float64:
        """Return some elements of the product."""
        columns, delta_N, done = as_matrix(shape)[1], np.empty(count), 0
        with np.errstate(all="ignore"):  # what is not finite comes through
            while done < count:
                row, column = divmod(first + done, columns)
                if columns > WIDE:
                    length = min(count - done, columns - column, WIDE)
                    rows_OI = self._rows(columns, read, (row, 1), (column, length), add)
                else:  # whole rows, so that every block of a tensor asks for the same factor
                    num = min(-(-(column + count - done) // columns), max(WIDE // columns, 1))
                    length = min(num * columns - column, count - done)
                    rows_OI = self._rows(columns, read, (row, num), (0, columns), add)
                start = 0 if columns > WIDE else column
                delta_N[done : done + length] = rows_OI.reshape(-1)[start : start + length]
                done += length
        return delta_N

    def _rows(
        self, columns: int, read: ReadPart, rows: tuple[int, int], of: tuple[int, int], add: AddProduct
    ) -> Float64:
        """Return some columns of some rows, each by its first and number."""
        (row, num), (column, width) = rows, of
        up_OK = read("up", row * self.rank, num * self.rank).reshape(num, self.rank)
        sum_OI = np.zeros((num, width))
        step = max(WIDE // width, 1) if width == columns else 1
        for k in range(0, self.rank, step):
            ranks = min(step, self.rank - k)
            down_KI = read("down", k * columns + column, ranks * width).reshape(ranks, width)
            add(sum_OI, np.ascontiguousarray(up_OK[:, k : k + ranks]), down_KI)
        return self.scale * sum_OI


DENSE = Dense()
"""The encoding of what has no smaller one."""


def part_name(name: str, part: str) -> str:
    """Return the name under which a part of a tensor's change is stored.

    >>> part_name("encoder.weight", "up"), part_name("encoder.weight", "")
    ('encoder.weight|up', 'encoder.weight')
    """
    return f"{name}{_MARK}{part}" if part else name


def part_of(stored: str, name: str) -> str:
    """Undo `part_name`.

    >>> part_of("encoder.weight|up", "encoder.weight"), part_of("encoder.weight", "encoder.weight")
    ('up', '')
    """
    return stored.removeprefix(name).removeprefix(_MARK)
