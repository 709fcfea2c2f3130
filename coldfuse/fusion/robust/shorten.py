"""Shorten contributions, each to its own share, before anything else is done with them.

    δ_i ← s_i δ_i

A federation's screening says which deltas are too long beside others of their kind, and by how much; the release names
every share s_i. Where nothing is shortened this step is left out, and no bit of any result depends on it.
"""

from __future__ import annotations

from pydantic import Field

from coldfuse.fusion.block import Block, Float64, Rows
from coldfuse.fusion.method import BY_CONTRIBUTION, Transform, Varying


class Shorten(Transform):
    """Takes a share of each delta."""

    summary = "takes a share of each delta, as a federation's screening says"
    source = "arXiv 1911.07963"

    share: float = Field(1.0, gt=0, le=1)
    """Share s of a delta that is taken."""

    def varying(self) -> Varying:
        """The share is each contribution's own."""
        return {"share": BY_CONTRIBUTION}

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Multiply each delta by its share."""
        share_R = block.info.values("share", self.share)[rows_R]
        deltas_RN *= share_R[:, None]
