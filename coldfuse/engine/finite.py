"""NaN and infinity in what is to be fused: refused where they are read, for most methods would not show them.

A sign vote, a rank or a median takes NaN for one number among others; a threshold in a NaN's neighbour may be lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coldfuse.engine.operands import AdapterOperand, AnyOperand, EncodedOperand
from coldfuse.engine.plan import PieceTask
from coldfuse.errors import FusionError
from coldfuse.fusion.block import Float64
from coldfuse.tensors.files import BlobFile


class NotFiniteError(FusionError):
    """An input holds NaN or infinity; the message names it and the tensor."""


def require_finite(piece: PieceTask, rows: Sequence[int], deltas_RN: Float64, base_N: Float64) -> None:
    """Raise `NotFiniteError` if NaN or infinity is among some elements of contributions or of the base.

    Args:
        piece: The piece that is fused.
        rows: Indices of the contributions, one for each row of `deltas_RN`.
        deltas_RN: The contributions' deltas of these elements.
        base_N: The base's elements.
    """
    if not np.isfinite(base_N).all():
        raise NotFiniteError(f"tensor {piece.tensor}: the base holds NaN or infinity; fuse on another one")
    broken = next((row for row, delta_N in zip(rows, deltas_RN, strict=True) if not np.isfinite(delta_N).all()), None)
    if broken is None:
        return
    what = file_of(piece.contributions[broken]) or f"contribution {broken + 1} in the order of digests"
    raise NotFiniteError(
        f"tensor {piece.tensor}: {what} holds NaN or infinity there; did its training diverge? leave it out"
    )


def file_of(operand: AnyOperand | None) -> str | None:
    """Return the name of an operand's file or adapter; None for a file in parts, which has no name that people know."""
    if isinstance(operand, AdapterOperand):
        return operand.what
    if isinstance(operand, EncodedOperand):
        operand = next(iter(operand.parts.values()))
    return operand.where.file.name if operand and not isinstance(operand.where.file, BlobFile) else None
