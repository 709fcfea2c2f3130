"""The geometric median: the point with the smallest sum of distances to all contributions (RFA).

    δ = argmin_m Σ_i α_i ‖m − δ_i‖      by the smoothed Weiszfeld steps
    m ← Σ_i β_i δ_i / Σ_i β_i,  β_i = α_i / max(floor, ‖m − δ_i‖)      from the weighted mean on, α_i = w_i / Σ w

arXiv 1912.13445. Every m is a combination of the deltas, so all steps need one Gram matrix. They end when the objective
changes by less than the tolerance's share of it.

The authors' floor is 1e-5, a length; for small deltas it would exceed all distances, and every step would give the mean
back. Here it is ν · (median of ‖m − δ_i‖ where w_i > 0), so that scaling the deltas scales the result. Where it is 0, m
lies on at least half of the contributions, and stays there.

Each step divides the pull of f far contributions among C by about C / f − 1 only. So a few steps stand as many bad ones
as screening keeps within some median lengths, and not one of any length: `tolerates` says 0.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from coldfuse.fusion.average.mean import average, require_none_negative
from coldfuse.fusion.block import TensorInfo
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import LinearCombination, LinearCombiner, Measure
from coldfuse.fusion.robust.distances import distances_to, squared_distances


class GeometricMedian(LinearCombiner):
    """The point with the smallest sum of distances to all contributions."""

    summary = "the point with the smallest sum of distances to all contributions (RFA)"
    source = "arXiv 1912.13445"
    is_weighted = True

    iterations: int = Field(4, ge=0)
    """Maximum number of Weiszfeld steps; 0 is the weighted mean."""
    tolerance: float = Field(1e-6, ge=0)
    """Share of the objective by which a step must change it for another one to be taken."""
    smoothing: float = Field(1e-5, gt=0)
    """Smallest distance ν that counts, as a share of the median distance."""

    def measures(self) -> tuple[Measure, ...]:
        """The Gram matrix of the whole model."""
        return (gram("model"),)

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = β and d = Σ β."""
        require_none_negative(info.weights_C)
        combination = average(info.weights_C, info, "zero")
        alpha_C = combination.deltas_C / combination.divisor
        squared_CC = squared_distances(info.measured["gram"])
        distance_C = distances_to(alpha_C, squared_CC)
        for _ in range(self.iterations):
            floor = self.smoothing * float(np.median(distance_C[alpha_C > 0]))
            if floor == 0:
                break
            beta_C = alpha_C / np.maximum(floor, distance_C)
            combination = LinearCombination(deltas_C=beta_C, divisor=math.fsum(beta_C))
            before, distance_C = distance_C, distances_to(beta_C / combination.divisor, squared_CC)
            objective = math.fsum(alpha_C * distance_C)
            if abs(math.fsum(alpha_C * before) - objective) < self.tolerance * objective:
                break
        return combination
