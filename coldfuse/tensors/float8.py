"""FP8 weights as BF16: each element times the scale of its block, computed as they are read, range by range.

The product is taken in float32, as transformers and vLLM take it, and rounded to bfloat16 once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import Raw, from_floats, to_floats
from coldfuse.core.schema import size_of
from coldfuse.tensors.files import ByteRange, File, opened
from coldfuse.tensors.float8_grid import Grid

_READ_ELEMENTS = 4 << 20
"""Number of elements that are read at a time: of a remote file, a request."""

_STEP_ELEMENTS = 1 << 18
"""Number of elements that are computed at a time; they take about 6 MiB."""

_ITEM = 2
"""Bytes of a BF16."""


def _e4m3() -> NDArray[np.float32]:
    """Return the number of each byte, as PyTorch's float8_e4m3fn has them: no infinity, and one NaN of each sign."""
    byte = np.arange(256)
    sign, exponent, fraction = np.where(byte < 128, 1.0, -1.0), byte >> 3 & 15, byte & 7
    value = np.where(exponent == 0, np.ldexp(fraction, -9), np.ldexp(8.0 + fraction, exponent - 10))
    return np.where(byte & 127 == 127, np.nan, sign * value).astype(np.float32)


def _e8m0() -> NDArray[np.float32]:
    """Return the power of two of each byte."""
    return np.append(np.ldexp(1.0, np.arange(255) - 127), np.nan).astype(np.float32)


_TABLES = {
    "F8_E4M3": _e4m3(),
    "F8_E5M2": (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32),
    "F8_E8M0": _e8m0(),
}

WEIGHT_DTYPES = frozenset({"F8_E4M3", "F8_E5M2"})
"""Dtypes of weights that are read with scales."""


@dataclass(frozen=True, kw_only=True)
class Float8Tensor:
    """An FP8 tensor as BF16, as a file of its own that is computed as it is read. It holds nothing open."""

    weight: ByteRange
    dtype: str
    scales: ByteRange
    scales_dtype: str
    grid: Grid

    @property
    def name(self) -> str:
        """The file that the weight lies in."""
        return self.weight.file.name

    @property
    def size_bytes(self) -> int:
        """Size in BF16."""
        return self.weight.length * _ITEM

    @property
    def is_remote(self) -> bool:
        """True if the weight or its scales are."""
        return self.weight.file.is_remote or self.scales.file.is_remote

    @property
    def sources(self) -> set[File]:
        """The files of the weight and its scales."""
        return {self.weight.file, self.scales.file}

    def open(self) -> Float8Tensor:
        """Return what reads it."""
        return self

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of its bytes."""
        return ByteRange(self, start, length)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with bytes from `start`, which may lie inside an element."""
        done = 0
        while done < len(buffer):
            first, skipped = divmod(start + done, _ITEM)
            count = min(-(-(skipped + len(buffer) - done) // _ITEM), _READ_ELEMENTS)
            for made in self._numbers(first, count):
                view = made[skipped:][: len(buffer) - done]
                buffer[done : done + len(view)] = view.data
                done, skipped = done + len(view), 0

    def _numbers(self, first: int, count: int) -> Iterator[Raw]:
        """Yield elements as BF16, some at a time."""
        raw, end = _read(self.weight, first, count), first + count
        top, scales = self._scales(self._scale_rows(first, end))
        for begin in range(first, end, _STEP_ELEMENTS):
            stop = min(begin + _STEP_ELEMENTS, end)
            values = _TABLES[self.dtype][raw[begin - first : stop - first]]
            wide = np.repeat(scales[self._scale_rows(begin, stop) - top], self.grid.block_columns, axis=1)
            skipped = begin % self.grid.columns
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is said by who fuses it
                values *= wide[:, : self.grid.columns].reshape(-1)[skipped : skipped + len(values)]
            yield from_floats(values, "BF16")

    def _scale_rows(self, first: int, end: int) -> NDArray[np.int64]:
        """Return the row of scales of each row that has some of these elements; they go up."""
        grid = self.grid
        rows = np.arange(first // grid.columns, -(-end // grid.columns))
        return rows // grid.rows * grid.scale_rows + rows % grid.rows // grid.block_rows

    def _scales(self, rows: NDArray[np.int64]) -> tuple[int, NDArray[np.float32]]:
        """Read all scales from the first of these rows to the last; return the first, and them."""
        top, width = int(rows[0]), self.grid.scale_columns
        start, stop = (size_of(self.scales_dtype, row * width) for row in (top, int(rows[-1]) + 1))
        raw = _read(self.scales, start, stop - start)
        table = _TABLES.get(self.scales_dtype)
        numbers = to_floats(raw, self.scales_dtype) if table is None else table[raw]
        return top, numbers.astype(np.float32).reshape(-1, width)


def _read(where: ByteRange, start: int, length: int) -> Raw:
    raw = np.empty(length, np.uint8)
    with opened(where.file) as reader:
        reader.read_into(raw.data, where.start + start)
    return raw
