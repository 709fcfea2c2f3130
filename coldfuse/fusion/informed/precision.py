"""Inverse-variance weighting: a weight that a contributor's training has pinned down counts more than one that drifts.

    δ = Σ_i (w_i / σ̂_i²) δ_i / Σ_i w_i / σ̂_i²      σ̂_i² = max(σ_i², floor)

It is the mean of the product of the contributions' Gaussian posteriors, of which each has the diagonal covariance σ_i²
that SWAG-Diagonal estimates: the variance of a weight along its training (arXiv 1902.02476, section 3.2).

A variance of exactly zero says that the weight never moved (a word that the data lack): nothing was learnt about it,
and the contribution does not count there. Where nobody's moved, or without statistics, it is the weighted mean.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from coldfuse.fusion.average.mean import WeightedMean, average, require_none_negative
from coldfuse.fusion.block import Block, Float64, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.informed.fisher import SQUARED_STATISTICS
from coldfuse.fusion.method import Combiner, Measure, Statistic

_TILE = 512
"""Elements whose sums stay in the processor's first cache."""


class Precision(Combiner):
    """The mean, weighted element by element by one over the variance."""

    summary = "each element counts by the inverse of its variance along each contributor's training (SWAG-Diagonal)"
    source = "arXiv 1902.02476, section 3.2"
    is_weighted: ClassVar[bool] = True
    statistic: ClassVar[Statistic | None] = "variance"

    normalise: bool = False
    """Divide each σ_i² by its root mean square over the model: for contributors whose learning rates differ, and so the
    length of their ways."""
    floor: float = Field(default=1e-2, ge=1e-12, le=1)
    """The least variance that is believed, as a share of the root mean square over the model."""

    def measures(self) -> tuple[Measure, ...]:
        """Measure Σ (σ_i²)² over the whole model."""
        return (SQUARED_STATISTICS,)

    def fuse(self, block: Block) -> Float64:
        """Return Σ (w / σ̂²) δ / Σ w / σ̂²."""
        info, variance_CN = block.info, block.statistics_CN
        if variance_CN is None:
            return WeightedMean().fuse(block)
        require_none_negative(info.weights_C)
        weights_C = average(info.weights_C, info, "zero").deltas_C
        top_N, bottom_N = np.empty(len(block.base_N)), np.empty(len(block.base_N))
        _sum(block.deltas_CN, variance_CN, self._floor(info), weights_C, np.empty((3, _TILE)), (top_N, bottom_N))
        return top_N / bottom_N

    def _floor(self, info: TensorInfo) -> Float64:
        """Return the floor under each contribution's variances: a share of its own size, or of the largest."""
        size_C = np.sqrt(info.measured["squared_statistics"] / info.num_elements)
        floor_C = self.floor * (size_C if self.normalise else np.full_like(size_C, size_C[info.weights_C != 0].max()))
        return np.maximum(floor_C, np.finfo(np.float64).tiny)  # the kernel divides by it


@compiled
def _sum(deltas: Any, variance: Any, floor: Any, weights: Any, sums: Any, out: Any) -> None:
    top, bottom = out
    total = weights.sum()
    for first in range(0, top.size, sums.shape[1]):
        size = min(sums.shape[1], top.size - first)
        sums[:] = 0.0
        for i in range(weights.size):
            for k in range(size):
                spread = variance[i, first + k]
                known = weights[i] * (floor[i] / (spread if spread > floor[i] else floor[i]))
                known = known if spread > 0 else 0.0
                sums[0, k] += known * deltas[i, first + k]
                sums[1, k] += known
                sums[2, k] += weights[i] * deltas[i, first + k]
        for k in range(size):
            top[first + k] = sums[0, k] if sums[1, k] > 0 else sums[2, k]
            bottom[first + k] = sums[1, k] if sums[1, k] > 0 else total
