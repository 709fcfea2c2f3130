"""Where a safetensors file is cut into parts: along its tensors, so that equal tensors give equal parts.

The header is a part of its own. Then whole tensors are packed into a part while they fit; a tensor that does not fit
into one begins a new part and is cut at multiples of the part size. So the cuts depend on the file's schema alone, a
part holds whole tensors or a piece of one, and a part is what one task fuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coldfuse.core.blob import part_bytes
from coldfuse.core.schema import elements_in, size_of
from coldfuse.tensors.header import Header, TensorEntry


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some elements of one tensor, in row-major order."""

    tensor: TensorEntry
    first: int
    """Index in the tensor of the first element."""
    num_elements: int

    @property
    def num_bytes(self) -> int:
        """Number of bytes that these elements take in the file."""
        return size_of(self.tensor.spec.dtype, self.num_elements)

    @property
    def start(self) -> int:
        """Byte in the file at which the first element lies."""
        return self.tensor.start + size_of(self.tensor.spec.dtype, self.first)


@dataclass(frozen=True, kw_only=True)
class PartLayout:
    """One part of a file: a range of bytes, and what they are."""

    start: int
    """Byte in the file at which the part begins."""
    size_bytes: int
    pieces: tuple[Piece, ...]
    """Elements that the part holds, in the order of the file; none in the header's part or in other files."""


def plan_parts(header: Header) -> list[PartLayout]:
    """Cut a safetensors file into parts, in the order of the file; together they are the whole file."""
    limit = part_bytes(header.file_bytes - header.size_bytes)
    return [PartLayout(start=0, size_bytes=header.size_bytes, pieces=()), *_data_parts(header, limit)]


def plan_plain_parts(file_bytes: int) -> list[PartLayout]:
    """Cut a file that is no safetensors file at multiples of the part size; an empty file has no part."""
    limit = part_bytes(file_bytes)
    return [
        PartLayout(start=start, size_bytes=min(limit, file_bytes - start), pieces=())
        for start in range(0, file_bytes, limit)
    ]


def _data_parts(header: Header, limit: int) -> Iterator[PartLayout]:
    packed: list[Piece] = []
    for tensor in header.tensors:
        pieces = list(_cut(tensor, limit))
        if packed and (len(pieces) > 1 or _size(packed) + pieces[0].num_bytes > limit):
            yield _layout(packed)
            packed = []
        if len(pieces) > 1:
            yield from (_layout([piece]) for piece in pieces)
        elif pieces[0].num_bytes:
            packed += pieces
    if packed:
        yield _layout(packed)


def _cut(tensor: TensorEntry, limit: int) -> Iterator[Piece]:
    total = tensor.spec.num_elements
    step = elements_in(tensor.spec.dtype, limit)
    for first in range(0, max(total, 1), step):
        yield Piece(tensor=tensor, first=first, num_elements=min(step, total - first))


def _size(pieces: list[Piece]) -> int:
    return sum(piece.num_bytes for piece in pieces)


def _layout(pieces: list[Piece]) -> PartLayout:
    return PartLayout(start=pieces[0].start, size_bytes=_size(pieces), pieces=tuple(pieces))
