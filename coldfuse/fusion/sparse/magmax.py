"""MagMax: every element takes the delta that changes it most (arXiv 2407.06322).

    δ = scale · δ_j      j = argmax_i |δ_i|

The later contribution counts where several are as large.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Combiner


class Magmax(Combiner):
    """Takes the largest change of each element."""

    summary = "take the largest change of each element (MagMax)"
    source = "arXiv 2407.06322"

    scale: float = 0.5
    """Factor λ of the fused delta."""

    def fuse(self, block: Block) -> Float64:
        """Return scale · the entry of the largest magnitude."""
        fused_N: Float64 = np.zeros_like(block.base_N)
        for delta_N in block.deltas_CN:
            _take_larger(delta_N, fused_N)
        fused_N *= self.scale
        return fused_N


@compiled
def _take_larger(delta: Any, largest: Any) -> None:
    """Replace entries that are no larger than the delta's."""
    for k in range(delta.size):
        largest[k] = delta[k] if abs(delta[k]) >= abs(largest[k]) else largest[k]
