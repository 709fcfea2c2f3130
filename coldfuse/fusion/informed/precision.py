"""Inverse-variance weighting: a weight that a contributor's training has pinned down counts more than one that drifts.

    δ = Σ_i (w_i / σ̂_i²) δ_i / Σ_i w_i / σ̂_i²      σ̂_i² = max(σ_i², floor)

It is the mean of the product of the contributions' Gaussian posteriors, of which each has the diagonal covariance σ_i²
that SWAG-Diagonal estimates: the variance of a weight along its training (arXiv 1902.02476, section 3.2).

A variance of exactly zero says that the weight never moved (a word that the data lack): nothing was learnt about it,
and the contribution does not count there. Where nobody's moved, or without statistics, it is the weighted mean
(`by_element`).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.informed.by_element import ByElement, Rule
from coldfuse.fusion.method import Statistic


class Precision(ByElement):
    """The mean, weighted element by element by one over the variance."""

    summary = "each element counts by the inverse of its variance along each contributor's training (SWAG-Diagonal)"
    source = "arXiv 1902.02476, section 3.2"
    statistic: ClassVar[Statistic | None] = "variance"

    normalise: bool = False
    """True to divide each σ_i² by its root mean square over the model: for contributors whose learning rates differ,
    and so the length of their ways."""
    floor: float = Field(default=1e-2, ge=1e-12, le=1)
    """Least variance that is believed, as a share of the root mean square over the model."""

    def rule(self, info: TensorInfo, weights_C: Float64) -> Rule:
        """Return k = w / σ̂², up to a factor, with a floor that is a share of each one's own size, or of the largest."""
        size_C = np.sqrt(info.measured["squared_statistics"] / info.num_elements)
        floor_C = self.floor * (size_C if self.normalise else np.full_like(size_C, size_C[info.weights_C != 0].max()))
        least_C = np.maximum(floor_C, np.finfo(np.float64).tiny)  # the kernel divides by it
        return Rule(scale_C=weights_C, least_C=least_C, is_inverse=True)
