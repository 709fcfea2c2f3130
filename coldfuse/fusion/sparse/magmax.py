"""MagMax: every element takes the delta that changes it most (arXiv 2407.06322).

    δ = scale · δ_j      j = argmax_i |δ_i|

The later contribution counts where several are as large.
"""

from __future__ import annotations

from typing import Any, ClassVar

from coldfuse.fusion.arrays import is_numpy, namespace
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Combiner


class Magmax(Combiner):
    """Takes the largest change of each element."""

    summary = "take the largest change of each element (MagMax)"
    source = "arXiv 2407.06322"

    on_device: ClassVar[bool] = True

    scale: float = 0.5
    """What the fused delta is multiplied by, λ."""

    def fuse(self, block: Block) -> Float64:
        """Return scale · the entry of the largest magnitude."""
        fused_N: Float64 = namespace(block.base_N).zeros_like(block.base_N)
        for delta_N in block.deltas_CN:
            take_larger(delta_N, fused_N)
        fused_N *= self.scale
        return fused_N


def take_larger(delta_N: Float64, largest_N: Float64) -> None:
    """Replace entries that are no larger than the delta's, in place."""
    if is_numpy(delta_N):
        _take_larger(delta_N, largest_N)
    else:
        xp = namespace(delta_N)
        largest_N[...] = xp.where(xp.abs(delta_N) >= xp.abs(largest_N), delta_N, largest_N)


@compiled
def _take_larger(delta: Any, largest: Any) -> None:
    for k in range(delta.size):
        largest[k] = delta[k] if abs(delta[k]) >= abs(largest[k]) else largest[k]
