"""Computes elements of deltas that are not stored element by element, and holds what every block of a tensor needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.adapters.adapter import Stored
from coldfuse.engine.multiplying import add_product
from coldfuse.engine.operands import AdapterOperand, EncodedOperand, Operand, operand_of
from coldfuse.engine.ranges import ElementRange
from coldfuse.errors import CodecError
from coldfuse.fusion.block import Float64
from coldfuse.tensors.files import ByteRange

Read = Callable[[Operand, int, int], NDArray[Any]]
"""read(operand, first, count): return elements of what is stored."""


class Expander:
    """Expands factors and the like for one task; what it has read of them is held up to a number of bytes."""

    def __init__(self, most_bytes: int, read: Read) -> None:
        """Hold nothing yet.

        Args:
            most_bytes: Number of bytes that are held at most, beside what is read last.
            read: Reads what is not held.
        """
        self._most_bytes, self._read = most_bytes, read
        self._held: dict[tuple[ByteRange, int, int], NDArray[Any]] = {}
        self._num_bytes = 0

    def expand(self, operand: AdapterOperand | EncodedOperand, base: Operand, elements: ElementRange) -> Float64:
        """Return some elements of a delta.

        Args:
            operand: Where its factors lie.
            base: The base's elements, at least those of the rows that hold these.
            elements: Which elements of the tensor.
        """
        if isinstance(operand, EncodedOperand):
            try:
                return operand.how.delta(operand.shape, partial(self._read_part, operand), *elements, add=add_product)
            except CodecError as error:
                file = operand.parts["values"].where.file
                raise CodecError(f"{file.name}: {error}; make the delta again") from error
        _, columns = operand.change.rows_columns
        first_row, end_row = elements[0] // columns, -(-(elements[0] + elements[1]) // columns)
        base_rows = np.empty((0, columns))
        if operand.change.needs_base:
            rows = first_row * columns, (end_row - first_row) * columns
            base_rows = self._read(base, *rows).reshape(-1, columns)
        delta = operand.change.delta_rows(self._read_factor, base_rows, first_row, end_row - first_row).reshape(-1)
        start = elements[0] - first_row * columns
        return delta[start : start + elements[1]]

    def forget(self) -> None:
        """Let go of all that is held: another piece comes."""
        self._held.clear()
        self._num_bytes = 0

    def _read_part(self, operand: EncodedOperand, part: str, first: int, count: int) -> NDArray[Any]:
        return self._values(operand.parts[part], first, count)

    def _read_factor(self, stored: Stored, first: int, count: int) -> Float64:
        return self._values(operand_of(stored), first, count)

    def _values(self, operand: Operand, first: int, count: int) -> NDArray[Any]:
        key = operand.where, first, count
        if key not in self._held:
            values = self._read(operand, first, count)
            if self._num_bytes + values.nbytes > self._most_bytes:
                self.forget()
            self._num_bytes += values.nbytes
            self._held[key] = values
        return self._held[key]
