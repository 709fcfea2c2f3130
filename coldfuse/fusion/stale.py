"""Contributions that were trained on an older base count less.

    δ_i ← s_i δ_i      s_i: what a federation's rule for late contributions says, 1 for those that are not late

It comes before all other steps of a round's recipe, so that a rule means the same for every method; a mean of K
contributions becomes Σ_i s_i δ_i / K (arXiv 2106.06639, algorithm 1). No recipe that people write has it: a release
says of each contribution what it was multiplied by.
"""

from __future__ import annotations

from pydantic import Field

from coldfuse.fusion.block import Block, Float64, Rows
from coldfuse.fusion.method import BY_CONTRIBUTION, Transform, Varying


class Stale(Transform):
    """Multiplies each delta by a number of its own."""

    summary = "deltas of older bases count less"
    source = "arXiv 2106.06639, algorithm 1"

    by: float = Field(1.0, ge=0, le=1)
    """What a delta is multiplied by, s_i."""

    def varying(self) -> Varying:
        """Return what differs from contribution to contribution."""
        return {"by": BY_CONTRIBUTION}

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Multiply."""
        by_C = block.info.own.get("by")
        deltas_RN *= self.by if by_C is None else by_C[rows_R, None]
