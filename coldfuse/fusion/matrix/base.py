"""What the methods of this package share: reading deltas one by one, and the mean for tensors that are not matrices.

Letters: C contributions, N elements of a block, O and I the rows and columns of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator

from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.block import Array, Block, Float64, Matrix
from coldfuse.fusion.method import MatrixCombiner


class MeanElsewhere(MatrixCombiner):
    """Takes the mean of tensors that are not matrices."""

    def fuse(self, block: Block) -> Float64:
        """Return Σ_i δ_i / C."""
        return Mean().fuse(block)


class ScaledMeanElsewhere(MeanElsewhere):
    """Takes the mean of tensors that are not matrices, and scales all tensors alike."""

    scale: float = 1.0
    """Factor α of what is fused."""

    def fuse(self, block: Block) -> Float64:
        """Return α Σ_i δ_i / C."""
        return self.scale * super().fuse(block)


def deltas(matrix: Matrix) -> Iterator[Array]:
    """Read δ_1, δ_2, … one after the other; each is the caller's to change."""
    return (matrix.read_delta(i) for i in range(matrix.info.num_contributions))


def total(matrix: Matrix) -> Array:
    """Return Σ_i δ_i."""
    every = deltas(matrix)
    total_OI = next(every)
    for delta_OI in every:
        total_OI += delta_OI
    return total_OI
