"""The coordinate-wise trimmed mean.

    δ_n = mean of what is left of δ_1n … δ_Cn without the k smallest and the k largest, k = ⌊β C⌋

arXiv 1803.01498, definition 2. With fewer than 1/β contributions (5 by default) nothing is trimmed: it is the mean.
"""

from __future__ import annotations

from pydantic import Field

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.robust.sorting import sort_contributions


class TrimmedMean(Combiner):
    """Each element's mean without the extremes."""

    summary = "each element's mean without the smallest and largest values"
    source = "arXiv 1803.01498, definition 2"

    trim: float = Field(0.2, ge=0, lt=0.5)
    """Share β of the contributions that is left out at either end."""

    def tolerates(self, num_contributions: int) -> int:
        """Return how many are left out at either end."""
        return min(int(self.trim * num_contributions), max(num_contributions - 1, 0) // 2)

    def fuse(self, block: Block) -> Float64:
        """Sum the sorted values that are left, smallest first."""
        sort_contributions(block.deltas_CN)
        count = len(block.deltas_CN)
        cut = self.tolerates(count)
        fused_N: Float64 = block.deltas_CN[cut]
        for delta_N in block.deltas_CN[cut + 1 : count - cut]:
            fused_N += delta_N
        fused_N /= count - 2 * cut
        return fused_N
