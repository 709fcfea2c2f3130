"""The mid-range: halfway between the smallest and the largest of what contributions say of an element.

δ = (1 − upper) min_i δ_i + upper max_i δ_i
"""

from __future__ import annotations

from pydantic import Field

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Combiner


class Midrange(Combiner):
    """Halfway between the extremes of each element."""

    summary = "halfway between each element's extremes"
    source = "any textbook of statistics"

    upper: float = Field(default=0.5, ge=0, le=1)
    """How far from the smallest value to the largest."""

    def fuse(self, block: Block) -> Float64:
        """Return what lies between the extremes."""
        return (1 - self.upper) * block.deltas_CN.min(axis=0) + self.upper * block.deltas_CN.max(axis=0)
