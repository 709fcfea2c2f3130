"""Reading statistics as they have travelled: coded in blocks, of which only those are read that hold what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coldfuse.core.dtypes import Raw
from coldfuse.engine.operands import CodedOperand, Operand
from coldfuse.engine.ranges import ElementRange
from coldfuse.fusion.block import Float64
from coldfuse.tensors.coded_statistics import decode_gram
from coldfuse.tensors.codes import BLOCK, coded_range, decode_values
from coldfuse.tensors.files import ByteRange

ReadBytes = Callable[[ByteRange, memoryview, int], None]
"""read(range, buffer, offset): fill the buffer with the range's bytes from `offset`."""


class CodedReader:
    """Reads coded statistics for one task."""

    def __init__(self, read: ReadBytes, buffer: Callable[[int], Raw]) -> None:
        """Take what reads bytes, and what gives a buffer of so many."""
        self._read, self._buffer = read, buffer

    def fill(self, operands: Sequence[Operand | CodedOperand | None], elements: ElementRange, rows_RN: Float64) -> None:
        """Write the coded operands' numbers into their rows, and 0 into the rows of those that are absent."""
        for operand, row_N in zip(operands, rows_RN, strict=True):
            if operand is None:
                row_N[:] = 0.0
            elif isinstance(operand, CodedOperand):
                row_N[:] = self._some(operand, elements)

    def whole(self, operand: CodedOperand) -> Float64:
        """Read all of an operand's numbers; a Gram matrix in both its halves."""
        raw = self._buffer(operand.where.length)
        self._read(operand.where, raw.data, 0)
        if operand.gram_size:
            return decode_gram(raw, operand.gram_size, operand.coding)
        return decode_values(raw, operand.num_coded, operand.coding, is_signed=False)

    def _some(self, operand: CodedOperand, elements: ElementRange) -> Float64:
        wanted = elements[0] - operand.first
        first, start, stop = coded_range(wanted, elements[1], operand.coding)
        count = min(-(-(wanted + elements[1]) // BLOCK) * BLOCK, operand.num_coded) - first
        raw = self._buffer(min(stop, operand.where.length) - start)
        self._read(operand.where, raw.data, start)
        values_N = decode_values(raw, count, operand.coding, is_signed=False)
        return values_N[wanted - first : wanted - first + elements[1]]
