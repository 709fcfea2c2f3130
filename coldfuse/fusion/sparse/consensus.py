"""Consensus task arithmetic: add deltas up where enough contributions need the sum (arXiv 2405.07813).

    τ = Σ_i δ_i      m_i = |δ_i| > λ · |τ − δ_i|      δ = scale · τ where Σ_i m_i ≥ k, else 0

The paper chooses λ for every task, and scale, on validation data; here each is one number. With fewer than k
contributions, all of them have to need an element.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Combiner

_TILE = 512
"""Elements whose sums are kept in the processor's first cache while the contributions are read one after the other."""


class Consensus(Combiner):
    """Adds deltas up where enough contributions need the sum."""

    summary = "add deltas up where at least k contributions need the sum (Consensus TA)"
    source = "arXiv 2405.07813"

    k: int = Field(2, ge=1)
    """Number of contributions that have to need an element; 1 drops only what none needs."""
    threshold: float = Field(0.4, ge=0)
    """Threshold λ: a contribution needs an element that it changes by more than λ times what the others do together."""
    scale: float = 0.3
    """Factor α of the sum."""

    def fuse(self, block: Block) -> Float64:
        """Return scale · the sum, where enough contributions need it."""
        least = min(self.k, block.info.num_contributions)
        fused_N = np.empty(len(block.base_N))
        _consensus(block.deltas_CN, self.threshold, least, np.empty(2 * _TILE), fused_N)
        fused_N *= self.scale
        return fused_N


@compiled
def _consensus(deltas: Any, threshold: Any, least: Any, sums: Any, out: Any) -> None:
    for first in range(0, out.size, _TILE):
        width = min(_TILE, out.size - first)
        sums[:] = 0.0  # τ, then Σ m
        for i in range(deltas.shape[0]):
            for k in range(width):
                sums[k] += deltas[i, first + k]
        for i in range(deltas.shape[0]):
            for k in range(width):
                delta = deltas[i, first + k]
                sums[_TILE + k] += 1.0 if abs(delta) > threshold * abs(sums[k] - delta) else 0.0
        for k in range(width):
            out[first + k] = sums[k] if sums[_TILE + k] >= least else 0.0
