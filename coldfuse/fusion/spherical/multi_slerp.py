"""Several deltas on a sphere about the base: their mean direction, with their mean length.

    μ = Σ_i w_i u_i,   u_i = δ_i / ‖δ_i‖,   Σ_i w_i = 1
    δ = Σ_i w_i ‖δ_i‖ · μ / ‖μ‖

mergekit's `multislerp` with a base model (goddard.blog, "Multi-SLERP"). There the formula goes on, from m = μ / ‖μ‖
along the tangent Σ_i w_i (u_i − ⟨u_i, m⟩ m) by the exponential map; but this tangent is μ − ⟨μ, m⟩ m = 0. `karcher`
takes the steps that it leaves out. Deltas that cancel have no mean direction: their weighted mean is taken (mergekit:
for two, and an error for more). A zero delta has no direction, and counts in the length.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from coldfuse.fusion.average.mean import average
from coldfuse.fusion.block import TensorInfo
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import LinearCombination, LinearCombiner, Measure
from coldfuse.fusion.spherical.sphere import combined_length, deltas_on_sphere, shares

_CANCELLED = 1e-6
"""‖μ‖ / Σ w below which little but rounding is left of the direction."""


class MultiSlerp(LinearCombiner):
    """Take the mean direction and the mean length of the deltas."""

    summary = "the deltas' mean direction, with their mean length"
    source = "mergekit 0.1.5, multislerp with a base model"
    is_weighted: ClassVar[bool] = True

    def measures(self) -> tuple[Measure, ...]:
        """Inner products of the deltas, by tensor."""
        return (gram("tensor"),)

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c_i = w_i / ‖δ_i‖ and d = ‖μ‖ / Σ w ‖δ‖."""
        weights_C, deltas = shares(info), deltas_on_sphere(info)
        has_direction_C = deltas.lengths_C > 0
        direction = combined_length(deltas.cosines_CC, weights_C)
        if deltas.are_equal or direction <= _CANCELLED * sum(weights_C * has_direction_C):
            return average(info.weights_C, info, "zero")
        length = float(sum(weights_C * deltas.lengths_C))
        units_C = np.divide(weights_C, deltas.lengths_C, out=np.zeros_like(weights_C), where=has_direction_C)
        return LinearCombination(deltas_C=units_C * length, divisor=direction)
