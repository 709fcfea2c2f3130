"""NearSwap: take over small changes as they are, and of larger ones only as much as the threshold.

    θ = (1 − w) θ_t + w θ_i,   w = min(1, t / |θ_i − θ_t|)   ⇔   δ ← w δ = min(max(δ, −t), t)

From mergekit's `nearswap` (huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001), whose base model is the base here.
The second form has no division. mergekit divides by no less than 1e-6, which matters only for a smaller t.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Block, Float64, Rows
from coldfuse.fusion.method import BY_BOTH, Transform, Varying


class Nearswap(Transform):
    """Cut every entry of a delta to a largest size."""

    summary = "every entry of a delta cut to a largest size"
    source = "mergekit 0.1.5, nearswap"

    t: float = Field(default=1e-4, gt=0)
    """Largest change of an element that is taken over whole."""

    def varying(self) -> Varying:
        """The largest change."""
        return {"t": BY_BOTH}

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Set δ = min(max(δ, −t), t)."""
        t_R1 = block.info.values("t", self.t)[rows_R, None]
        np.clip(deltas_RN, -t_R1, t_R1, out=deltas_RN)
