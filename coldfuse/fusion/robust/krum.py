"""Krum: take the contribution that lies closest to the others; or average those that lie closest.

    s_i = Σ of the C − f − 2 smallest ‖δ_i − δ_j‖², j ≠ i      δ = mean of the m contributions with the smallest s

arXiv 1703.02757, section 4; Krum has m = 1. The distances are between whole deltas, in
float64; Flower takes them between weights in float32, where a fine-tuned model's are lost in rounding. Of equal scores
the first contribution wins. One or two contributions have no closest others: Krum is then the first, and multi-Krum the
mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from coldfuse.errors import FusionError
from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import LinearCombination, LinearCombiner, Measure
from coldfuse.fusion.robust.distances import squared_distances


class Krum(LinearCombiner):
    """The contribution that lies closest to the others."""

    summary = "the one contribution that lies closest to the others"
    source = "arXiv 1703.02757, section 4"

    byzantine: int = Field(0, ge=0)
    """Number f of contributions that may be hostile; needs 2 f + 3 contributions."""

    def measures(self) -> tuple[Measure, ...]:
        """The Gram matrix of the whole model."""
        return (gram("model"),)

    def tolerates(self, num_contributions: int) -> int:
        """Return f, if they are enough: the paper proves it for 2 f + 3 and more."""
        return self.byzantine if num_contributions >= 2 * self.byzantine + 3 else 0

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = 1 for the best."""
        return _mean_of_best(info, self.byzantine, 1)


class MultiKrum(LinearCombiner):
    """The mean of the contributions that lie closest to the others."""

    summary = "the mean of those contributions that lie closest to the others"
    source = "arXiv 1703.02757"

    byzantine: int = Field(0, ge=0)
    """Number f of contributions that may be hostile; needs 2 f + 3 contributions."""
    selected: int | None = Field(None, ge=1)
    """Number m of contributions that are averaged; all but f if not set."""

    def measures(self) -> tuple[Measure, ...]:
        """The Gram matrix of the whole model."""
        return (gram("model"),)

    def tolerates(self, num_contributions: int) -> int:
        """Return f, if they are enough: the paper proves it for 2 f + 3 and more."""
        return self.byzantine if num_contributions >= 2 * self.byzantine + 3 else 0

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = 1 for the m best and d = m."""
        trusted = info.num_contributions - self.byzantine
        if self.selected is not None and self.selected > trusted:
            raise FusionError(
                f"multi-krum shall average {self.selected} of {info.num_contributions} contributions, of which "
                f"{self.byzantine} may be hostile; expected at most {trusted}: lower selected or byzantine"
            )
        return _mean_of_best(info, self.byzantine, self.selected or trusted)


def best(gram_CC: Float64, byzantine: int, selected: int) -> NDArray[np.intp]:
    """Return the indices of the contributions with the smallest scores, in the contributions' order."""
    squared_CC = np.sort(squared_distances(gram_CC), axis=1)  # each row starts with the contribution itself, at 0
    nearest = max(1, len(gram_CC) - byzantine - 2)
    scores_C = squared_CC[:, 1 : 1 + nearest].T.copy().sum(axis=0)
    return np.sort(np.argsort(scores_C, kind="stable")[:selected])


def check_enough(info: TensorInfo, byzantine: int, needed: int) -> None:
    """Raise `FusionError` if some may be hostile and the others are too few to tell."""
    if byzantine and info.num_contributions < needed:
        raise FusionError(
            f"expected at least {needed} contributions if {byzantine} may be hostile, got {info.num_contributions}; "
            "lower byzantine, or wait for more contributions"
        )


def _mean_of_best(info: TensorInfo, byzantine: int, selected: int) -> LinearCombination:
    check_enough(info, byzantine, 2 * byzantine + 3)
    coefficients_C = np.zeros(info.num_contributions)
    coefficients_C[best(info.measured["gram"], byzantine, selected)] = 1.0
    return LinearCombination(deltas_C=coefficients_C, divisor=float(selected))
