"""ColD Fusion's own rule: the mean of what was contributed.

    δ = Σ_i w_i δ_i / Σ_i w_i      w_i = 1: arXiv 2212.01378, section 3; w_i = examples: arXiv 1602.05629, algorithm 1

A contribution that did not change a tensor says that it should stay, and counts in the divisor; `absent=skip` leaves it
out of the divisor instead.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from coldfuse.errors import FusionError
from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.method import LinearCombination, LinearCombiner


class Mean(LinearCombiner):
    """The mean; every contribution counts the same."""

    summary = "every contribution counts the same (ColD Fusion)"
    source = "arXiv 2212.01378, section 3"

    absent: Literal["zero", "skip"] = "zero"
    """Meaning of a tensor that a contribution lacks: a delta of zero, or one that does not count."""

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = 1 and d = C."""
        return average(np.ones(info.num_contributions), info, self.absent)


class WeightedMean(LinearCombiner):
    """The mean; a contribution counts by its weight."""

    summary = "a contribution counts by its weight: its number of examples, or as given"
    source = "arXiv 1602.05629, algorithm 1"
    is_weighted: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = True

    by: Literal["examples", "score"] = "examples"
    """Source of the weights in a federation: the number of examples, or the contributor's own score after training."""
    absent: Literal["zero", "skip"] = "zero"
    """Meaning of a tensor that a contribution lacks: a delta of zero, or one that does not count."""

    def weigh(self, num_examples: int, score: float | None) -> float:
        """Return the number of examples, or the score: one that is missing or negative counts nothing."""
        return float(num_examples) if self.by == "examples" else max(score or 0.0, 0.0)

    normalize: bool | None = None
    """False to take θ = Σ_i w_i θ_i as it is, as mergekit can be told to: Σ w other than 1 scales the model."""

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = w and d = Σ w; or d = 1, and b = Σ w − 1 for what the weights make of the base."""
        if self.normalize is False:
            if self.absent == "skip" or not np.isfinite(info.weights_C).all():
                given = info.weights_C.tolist()
                raise FusionError(f"normalize=false: expected finite weights and absent=zero, got {given}")
            return LinearCombination(deltas_C=info.weights_C, base=float(sum(info.weights_C)) - 1)
        return average(info.weights_C, info, self.absent)


def require_none_negative(weights_C: Float64) -> None:
    """Raise `FusionError` for weights under 0, where a formula divides by sums of which they are a part."""
    if not (weights_C >= 0).all():  # also refuses NaN
        raise FusionError(f"weights are {weights_C.tolist()}, expected none under 0")


def average(weights_C: Float64, info: TensorInfo, absent: str) -> LinearCombination:
    """Return the combination of a weighted mean. Raises `FusionError` for weights that make none."""
    if absent == "skip" and (present_C := weights_C * info.present_C).any():
        weights_C = present_C
    total = float(sum(weights_C))
    if not 0 < total < float("inf"):  # also refuses NaN
        raise FusionError(f"weights sum to {total}, expected a finite number above 0")
    return LinearCombination(deltas_C=weights_C, divisor=total)
