# ruff: noqa: N803, N806 - tensor names end in their shape
"""What an adapter does to a tensor, as arithmetic on the rows of its delta, from small factors that lie in a file.

    LoRA  (arXiv 2106.09685):  δ = s·BA
    DoRA  (arXiv 2402.09353):  δ = m/‖W + s·BA‖ ⊙ (W + s·BA) − W, one norm and one magnitude an output row
    (IA)³ (arXiv 2205.05638):  δ = (l − 1) ⊙ W, one l an output row or an input column
    LoHa  (arXiv 2108.06098):  δ = s·(B₁A₁ ⊙ B₂A₂)
    LoKr  (arXiv 2309.14859):  δ = s·(W₁ ⊗ W₂)
    whole tensors:             δ = W' − W, for all rows or for some

Factors are never mixed with those of another adapter: only deltas may be averaged. A tensor is seen as a matrix, O rows
by I columns: all dimensions after the first are one. Everything is float64 and added in one order, without BLAS, so a
delta's bits depend on neither the machine nor on how its rows are cut. Letters: O rows, I columns, K rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import to_floats
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.tensors.contents import same_bytes
from coldfuse.tensors.files import File, opened
from coldfuse.tensors.header import Header, TensorEntry
from coldfuse.tensors.products import as_matrix, multiply
from coldfuse.tensors.tensor_file import TensorFile

Float64 = NDArray[np.float64]

_NO_HEADER = Header(size_bytes=0, tensors=())
"""Header of a file of which only a tensor is known."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    file: File
    tensor: TensorEntry

    def same_bytes(self, other: Stored) -> bool:
        """Tell whether another one has the same dtype, shape and bytes; both are read as a stream."""
        return same_bytes(*((TensorFile(one.file, _NO_HEADER), one.tensor) for one in (self, other)))


Read = Callable[[Stored, int, int], Float64]
"""read(stored, first, count): return `count` elements from index `first` in row-major order."""


def read_stored(stored: Stored, first: int, count: int) -> Float64:
    """Read elements from the file itself, which is opened for each call; see `Read`."""
    spec = stored.tensor.spec
    item = ITEM_BYTES[spec.dtype]
    raw = np.empty(count * item, np.uint8)
    with opened(stored.file) as file:
        file.read_into(raw.data, stored.tensor.start + first * item)
    return to_floats(raw, spec.dtype).astype(np.float64)


class Matrix(Protocol):
    """A matrix of which any rows can be had."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def rows(self, read: Read, first: int, num: int) -> Float64:
        """Return rows `first` to `first + num`."""
        ...


@dataclass(frozen=True)
class Factor:
    """A matrix as it is stored, or its transpose."""

    stored: Stored
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = as_matrix(self.stored.tensor.spec.shape)
        return (columns, rows) if self.transposed else (rows, columns)

    def rows(self, read: Read, first: int, num: int) -> Float64:
        """Return rows `first` to `first + num`, reading no others."""
        num_rows, num_columns = self.shape
        if not self.transposed:
            return read(self.stored, first * num_columns, num * num_columns).reshape(num, num_columns)
        if (first, num) == (0, num_rows):  # one long read instead of one a column; the same bits
            return np.ascontiguousarray(read(self.stored, 0, num_rows * num_columns).reshape(num_columns, num_rows).T)
        return np.stack([read(self.stored, column * num_rows + first, num) for column in range(num_columns)], axis=1)


@dataclass(frozen=True)
class Product:
    """The product of two factors, BA."""

    left: Matrix
    right: Matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.left.shape[0], self.right.shape[1]

    def rows(self, read: Read, first: int, num: int) -> Float64:
        """Return rows `first` to `first + num`, reading these rows of B and all of A."""
        return multiply(self.left.rows(read, first, num), self.right.rows(read, 0, self.right.shape[0]))

    def factors(self, read: Read) -> tuple[Float64, Float64]:
        """Return both factors, whole."""
        return self.left.rows(read, 0, self.left.shape[0]), self.right.rows(read, 0, self.right.shape[0])


class Change(Protocol):
    """What an adapter does to one tensor."""

    needs_base: ClassVar[bool]
    """True if the delta depends on the base's values."""
    is_sum: ClassVar[bool]
    """True if the change may be added to another one of the same tensor."""

    def rows(self, read: Read, base_OI: Float64, first: int, num: int, /) -> Float64:
        """Return rows `first` to `first + num` of the delta.

        Args:
            read: Reads ranges of the factors.
            base_OI: The base's values of the same rows; anything if not `needs_base`. It is left as it is.
            first: Index of the first row.
            num: Number of rows.
        """
        ...


@dataclass(frozen=True)
class Added:
    """δ = s·M: LoRA, and the bias of its B."""

    matrix: Matrix
    scale: float
    needs_base: ClassVar[bool] = False
    is_sum: ClassVar[bool] = True

    def rows(self, read: Read, _base_OI: Float64, first: int, num: int) -> Float64:
        """Return some rows of the delta."""
        return self.scale * self.matrix.rows(read, first, num)


@dataclass(frozen=True)
class Renormed:
    """δ = m/‖V‖ ⊙ V − W with V = W + s·BA: DoRA. A row of zeros has no direction, and stays zero."""

    matrix: Matrix
    scale: float
    magnitude: Stored
    """The trained norm m of each row, in any shape."""
    needs_base: ClassVar[bool] = True
    is_sum: ClassVar[bool] = False

    def rows(self, read: Read, base_OI: Float64, first: int, num: int) -> Float64:
        """Return some rows of the delta."""
        moved_OI = base_OI + self.scale * self.matrix.rows(read, first, num)
        norm_O = np.sqrt(_sum_rows(moved_OI * moved_OI))
        magnitude_O = read(self.magnitude, first, num)
        factor_O = np.divide(magnitude_O, norm_O, out=np.zeros_like(norm_O), where=norm_O != 0)
        return factor_O[:, None] * moved_OI - base_OI


@dataclass(frozen=True)
class Rescaled:
    """δ = (l − 1) ⊙ W: (IA)³, along output rows or input columns."""

    vector: Stored
    along: Literal["rows", "columns"]
    needs_base: ClassVar[bool] = True
    is_sum: ClassVar[bool] = False

    def rows(self, read: Read, base_OI: Float64, first: int, num: int) -> Float64:
        """Return some rows of the delta."""
        if self.along == "rows":
            return (read(self.vector, first, num) - 1.0)[:, None] * base_OI
        size = self.vector.tensor.spec.num_elements
        each = base_OI.shape[1] // size  # a convolution's kernel lies inside a channel
        return np.repeat(read(self.vector, 0, size) - 1.0, each) * base_OI


@dataclass(frozen=True)
class Hadamard:
    """δ = s·(M₁ ⊙ M₂): LoHa."""

    left: Matrix
    right: Matrix
    scale: float
    needs_base: ClassVar[bool] = False
    is_sum: ClassVar[bool] = False

    def rows(self, read: Read, _base_OI: Float64, first: int, num: int) -> Float64:
        """Return some rows of the delta."""
        return self.scale * (self.left.rows(read, first, num) * self.right.rows(read, first, num))


@dataclass(frozen=True)
class Kronecker:
    """δ = s·(M₁ ⊗ M₂): LoKr. Row a·K + k of the delta is row a of M₁ times row k of M₂, K rows."""

    outer: Matrix
    inner: Matrix
    scale: float
    needs_base: ClassVar[bool] = False
    is_sum: ClassVar[bool] = False

    def rows(self, read: Read, _base_OI: Float64, first: int, num: int) -> Float64:
        """Return some rows of the delta."""
        period, end = self.inner.shape[0], first + num
        blocks = range(first // period, -(-end // period))
        low, high = (first - blocks[0] * period, end - blocks[0] * period) if len(blocks) == 1 else (0, period)
        outer_AC = self.outer.rows(read, blocks[0], len(blocks))
        inner_KN = self.inner.rows(read, low, high - low)
        delta_OI = np.empty((num, self.outer.shape[1] * self.inner.shape[1]))
        # The rows asked for may begin and end inside a block: each row of M₁ makes `period` rows of the delta.
        for outer_C, a in zip(outer_AC, blocks, strict=True):
            start, stop = max(first, a * period), min(end, (a + 1) * period)
            rows_KN = inner_KN[start - a * period - low : stop - a * period - low]
            block = outer_C[None, :, None] * rows_KN[:, None, :]
            delta_OI[start - first : stop - first] = self.scale * block.reshape(len(rows_KN), -1)
        return delta_OI


@dataclass(frozen=True)
class Replaced:
    """δ = W' − W: a tensor that was trained whole."""

    stored: Stored
    needs_base: ClassVar[bool] = True
    is_sum: ClassVar[bool] = True

    def rows(self, read: Read, base_OI: Float64, first: int, num: int) -> Float64:
        """Return some rows of the delta."""
        return Factor(self.stored).rows(read, first, num) - base_OI


@dataclass(frozen=True)
class SomeReplaced:
    """δ = W' − W in some rows, and 0 in all others: the embeddings of tokens that were trained alone."""

    stored: Stored
    """The new rows."""
    indices: tuple[int, ...]
    """The row of the tensor that each of them replaces."""
    needs_base: ClassVar[bool] = True
    is_sum: ClassVar[bool] = False

    def rows(self, read: Read, base_OI: Float64, first: int, num: int) -> Float64:
        """Return some rows of the delta."""
        columns, delta_OI = base_OI.shape[1], np.zeros_like(base_OI)
        for index, row in enumerate(self.indices):
            if first <= row < first + num:
                delta_OI[row - first] = read(self.stored, index * columns, columns) - base_OI[row - first]
        return delta_OI


def _sum_rows(values_OI: Float64) -> Float64:
    """Sum each row by halving, in place: one order of additions, whatever the machine and the number of rows."""
    width = values_OI.shape[1]
    while width > 1:
        half = width // 2
        values_OI[:, :half] += values_OI[:, width - half : width]
        width -= half
    return values_OI[:, 0]
