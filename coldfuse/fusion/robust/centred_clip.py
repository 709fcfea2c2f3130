"""Centred clipping: a mean whose every pull is of limited length.

    v ← v + (1/C) Σ_i (δ_i − v) · min(1, τ / ‖δ_i − v‖)      some times, from v = 0, the base, on

arXiv 2012.10333, algorithm 2 (its authors start where the last round ended; here every round starts at its base). Every
v is a combination of 0 and the deltas, so all steps need one Gram matrix. Without a given τ it is the median of
‖δ_i − v‖ at each step.

Letters: P = C + 1 points, the base and the contributions.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import TensorInfo
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import LinearCombination, LinearCombiner, Measure
from coldfuse.fusion.robust.distances import distances_to, squared_distances


class CentredClip(LinearCombiner):
    """A mean whose every pull is of limited length."""

    summary = "a mean that no contribution can pull farther than a radius"
    source = "arXiv 2012.10333, algorithm 2"

    radius: float | None = Field(None, gt=0)
    """Radius τ: how far a contribution may pull; the median distance from v at each step if not set."""
    iterations: int = Field(3, ge=1)
    """Number of steps."""

    def measures(self) -> tuple[Measure, ...]:
        """The Gram matrix of the whole model."""
        return (gram("model"),)

    def tolerates(self, num_contributions: int) -> int:
        """Return a tenth of them, which the paper proves."""
        return num_contributions // 10

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = C times the shares of the deltas in v, and d = C."""
        count = info.num_contributions
        squared_PP = squared_distances(np.pad(info.measured["gram"], (1, 0)))
        shares_P = np.zeros(1 + count)
        shares_P[0] = count  # of v, times C: so that equal deltas come back bit by bit
        for _ in range(self.iterations):
            distance_C = distances_to(shares_P / count, squared_PP)[1:]
            tau = self.radius if self.radius is not None else float(np.median(distance_C))
            scale_C = np.divide(tau, distance_C, out=np.ones(count), where=distance_C > tau)
            shares_P *= 1 - math.fsum(scale_C) / count
            shares_P[1:] += scale_C
        return LinearCombination(deltas_C=shares_P[1:], divisor=float(count))
