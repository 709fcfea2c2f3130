"""Norm clipping: no contribution moves the model farther than a given length.

    δ_i ← δ_i · min(1, c / ‖δ_i‖)      ‖·‖ over the whole model

arXiv 1911.07963 ("norm thresholding"). Without a given c it is the median of
the round's norms: then half of the contributions are shortened, and one that is a thousand times too long counts as
much as an average one.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Block, Float64, Rows
from coldfuse.fusion.measures import squared_norms
from coldfuse.fusion.method import Measure, Transform


class Clip(Transform):
    """Shortens deltas that are longer than a norm."""

    summary = "shortens deltas whose norm is above the round's median, or a given one"
    source = "arXiv 1911.07963"

    norm: float | None = Field(None, gt=0)
    """Largest norm c of a whole delta; the median of the round's norms if not set."""

    def measures(self) -> tuple[Measure, ...]:
        """All norms, of the whole model."""
        return (squared_norms("model"),)

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Scale the deltas that are too long."""
        norms_C = np.sqrt(block.info.measured["squared_norms"])
        limit = self.norm if self.norm is not None else float(np.median(norms_C))
        for r, norm in enumerate(norms_C[rows_R]):
            if norm > limit:
                deltas_RN[r] *= limit / norm
