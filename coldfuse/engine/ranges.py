"""How a piece is cut into blocks, and what a method knows of the piece's tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coldfuse.engine.job import Fusion
from coldfuse.engine.operands import AnyOperand, Operand
from coldfuse.engine.plan import PieceTask
from coldfuse.fusion.block import TensorInfo

ElementRange = tuple[int, int]
"""First element and number of elements, in the tensor."""


def info_of(fusion: Fusion, piece: PieceTask, step: int) -> TensorInfo:
    """Return what a step of the recipe knows of a piece's tensor; `step` is its index in the recipe."""
    present = tuple(operand is not None for operand in piece.contributions)
    informed = tuple(operand is not None for operand in piece.statistics)
    return fusion.info(piece.known_as, piece.shape, present, informed, step)


def element_ranges(
    fusion: Fusion, piece: PieceTask, *, is_measured: bool = False, length: int = 0
) -> Iterator[ElementRange]:
    """Cut a piece into blocks.

    Where whole rows are needed they may reach beyond the piece, unless it is measured: then a row belongs to the piece
    that holds its first element, so that none is measured twice.

    Args:
        fusion: What says how long blocks are, and whether rows are kept whole.
        piece: What is cut.
        is_measured: True in passes that measure.
        length: Number of elements of a block; 0: the fusion's own.
    """
    length = length or fusion.block_elements
    end = piece.first + piece.num_elements
    if not (fusion.recipe.whole_rows and piece.shape and piece.shape[-1]):
        for first in range(piece.first, end, length):
            yield first, min(length, end - first)
        return
    row = piece.shape[-1]
    first = -(-piece.first // row) * row if is_measured else piece.first // row * row
    yield from whole_rows(first, -(-end // row) * row, row, length)


def whole_rows(first: int, end: int, row: int, length: int) -> Iterator[ElementRange]:
    """Cut [first, end) into runs of whole rows of about this length."""
    step = max(length // row, 1) * row
    for start in range(first, end, step):
        yield start, min(step, end - start)


def kind_of(operands: Sequence[AnyOperand | None]) -> tuple[str, bool] | None:
    """Return the dtype, and whether it is a delta, that all operands share that are there; None: they differ."""
    kinds = {(o.dtype, o.is_delta) if isinstance(o, Operand) else None for o in operands if o is not None}
    return kinds.pop() if len(kinds) == 1 else None


def has_rows(piece: PieceTask, *, step: int) -> bool:
    """Tell whether a step can have a piece's deltas as they lie in their files: all there, of a kind, untransformed."""
    kind = kind_of(piece.contributions)
    return step == 0 and kind is not None and all(piece.contributions) and (kind[1] or kind[0] == piece.base.dtype)
