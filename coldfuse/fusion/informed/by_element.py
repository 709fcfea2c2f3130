"""What `fisher` and `precision` have in common: a mean whose weights differ from element to element.

    δ = Σ_i k_i δ_i / Σ_i k_i      k_i follows from contribution i's statistics of the element

Where nobody knows anything of an element (every k_i is 0), and in a tensor without statistics, it is the weighted mean.
A contribution without statistics, where others have some, counts as one whose data say the same of every element: as
much as its own say on average elsewhere, or, where it has none at all, as the others' do (root mean squares).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from coldfuse.fusion.average.mean import WeightedMean, average, require_none_negative
from coldfuse.fusion.block import Block, Float64, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Combiner, Measure, Sums
from coldfuse.fusion.products import squared_lengths

_TILE = 512
"""Number of elements whose sums stay in the processor's first cache."""


def _squared_statistics(block: Block) -> Float64:
    if block.statistics_CN is None:
        return np.zeros(block.info.num_contributions)
    return squared_lengths(block.statistics_CN)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a statistic s says what contribution i knows: k = scale_i (max(s, least_i) + added).

    Inverse: k = scale_i least_i / max(s, least_i), and 0 where s is 0.
    """

    scale_C: Float64
    least_C: Float64
    added: float = 0.0
    is_inverse: bool = False


class ByElement(Combiner):
    """The mean, weighted element by element by what each contribution's statistics say."""

    is_weighted: ClassVar[bool] = True

    def measures(self) -> tuple[Measure, ...]:
        """Measure Σ s_i² over the whole model, shape (C,)."""
        return (Sums(name="squared_statistics", of=_squared_statistics, reads_deltas=False),)

    @abstractmethod
    def rule(self, info: TensorInfo, weights_C: Float64) -> Rule:
        """Return how statistics become weights, for contributions that count as much as `weights_C` say."""

    def fuse(self, block: Block) -> Float64:
        """Return Σ k δ / Σ k."""
        info, statistics_CN = block.info, block.statistics_CN
        if statistics_CN is None:
            return WeightedMean().fuse(block)
        require_none_negative(info.weights_C)
        weights_C = average(info.weights_C, info, "zero").deltas_C
        info, statistics_CN = _completed(info, statistics_CN)
        rule = self.rule(info, weights_C)
        numbers = rule.scale_C, rule.least_C, rule.added, rule.is_inverse
        fused_N = np.empty(len(block.base_N))
        _average(block.deltas_CN, statistics_CN, numbers, weights_C, np.empty((3, _TILE)), fused_N)
        return fused_N


def _completed(info: TensorInfo, statistics_CN: Float64) -> tuple[TensorInfo, Float64]:
    """Put what is the same everywhere in the rows of those who know nothing of a tensor that others know of."""
    if info.informed_C is None or info.informed_C.all():
        return info, statistics_CN
    squared_C = info.measured["squared_statistics"]
    others = squared_C[(squared_C > 0) & (info.weights_C != 0)]
    squared_C = np.where(info.informed_C | (squared_C > 0), squared_C, others.mean() if others.size else 0.0)
    flat_C = np.sqrt(squared_C / info.num_elements)
    filled_CN = np.where(info.informed_C[:, None], statistics_CN, flat_C[:, None])
    return replace(info, measured={**info.measured, "squared_statistics": squared_C}), filled_CN


@compiled
def _average(deltas: Any, statistics: Any, rule: Any, weights: Any, sums: Any, out: Any) -> None:
    scale, least, added, is_inverse = rule
    total = weights.sum()
    for first in range(0, out.size, sums.shape[1]):
        size = min(sums.shape[1], out.size - first)
        sums[:] = 0.0
        for i in range(weights.size):
            for k in range(size):
                given = statistics[i, first + k]
                bounded = given if given > least[i] else least[i]
                known = scale[i] * (least[i] / bounded if is_inverse else bounded + added)
                known = 0.0 if is_inverse and not given > 0.0 else known
                sums[0, k] += known * deltas[i, first + k]
                sums[1, k] += known
                sums[2, k] += weights[i] * deltas[i, first + k]
        for k in range(size):
            is_known = sums[1, k] > 0.0
            out[first + k] = (sums[0, k] if is_known else sums[2, k]) / (sums[1, k] if is_known else total)
