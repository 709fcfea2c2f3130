"""The coordinate-wise median.

    δ_n = median_i δ_in; of an even number, the mean of the two in the middle      arXiv 1803.01498, definition 1

Less than half of the contributions cannot move an element out of the range of the others.
"""

from __future__ import annotations

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.robust.sorting import sort_contributions


class Median(Combiner):
    """Each element's median."""

    summary = "each element's median: safe from less than half of the contributions"
    source = "arXiv 1803.01498, definition 1"

    def tolerates(self, num_contributions: int) -> int:
        """Return one less than half of them."""
        return max(num_contributions - 1, 0) // 2

    def fuse(self, block: Block) -> Float64:
        """Return the middle of the sorted values."""
        sort_contributions(block.deltas_CN)
        count = len(block.deltas_CN)
        fused_N: Float64 = (block.deltas_CN[(count - 1) // 2] + block.deltas_CN[count // 2]) / 2
        return fused_N
