"""Fisher-weighted averaging: each parameter is averaged by how much each contributor's data say about it.

    δ = Σ_i λ_i F̂_i δ_i / Σ_i λ_i F̂_i      λ_i = w_i / ‖F_i‖₂, over all parameters      (arXiv 2111.09832, section 3)

F_i is the diagonal of the Fisher information. The authors' code puts a floor of 1e-6 under the target model's alone, so
that what nobody knows stays as the target has it. Here no contribution is the target: the floor is under all, and as F
has no natural unit, it is a share of F_i's root mean square. Where nobody knows more than that, the result is the
weighted mean; and so it is in a tensor without statistics, or where every F_i is zero.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from coldfuse.fusion.arrays import is_numpy, namespace
from coldfuse.fusion.average.mean import WeightedMean, average, require_none_negative
from coldfuse.fusion.block import Array, Block, Float64, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Combiner, Measure, Statistic, Sums
from coldfuse.fusion.products import inner_products

_TILE = 512
"""Elements whose sums stay in the processor's first cache."""


def _squared_statistics(block: Block) -> Float64:
    if block.statistics_CN is None:
        return np.zeros(block.info.num_contributions)
    return np.array([inner_products(statistic_N[None])[0, 0] for statistic_N in block.statistics_CN])


SQUARED_STATISTICS = Sums(name="squared_statistics", of=_squared_statistics, reads_deltas=False)
"""Σ of the squares of each contribution's statistics over the whole model, shape (C,)."""


class Fisher(Combiner):
    """The mean, weighted element by element by Fisher information."""

    summary = "each element counts by how much each contributor's data say about it (Fisher information)"
    source = "arXiv 2111.09832, section 3"
    is_weighted: ClassVar[bool] = True
    statistic: ClassVar[Statistic | None] = "fisher"
    on_device: ClassVar[bool] = True

    normalise: bool = True
    """Divide each F_i by its L2 norm over the whole model: then F's unit does not matter, nor who has more of it."""
    floor: float = Field(default=1e-6, ge=0)
    """How much every contribution knows of every element at least."""
    floor_rule: Literal["relative", "absolute", "added"] = "relative"
    """`relative`: max(F, floor · root mean square of F). `absolute`: max(F, floor), the authors' rule for their target
    model; `added`: F + floor, as MergeLM and FusionBench do: these two depend on F's unit."""

    def measures(self) -> tuple[Measure, ...]:
        """Measure ‖F_i‖² over the whole model."""
        return (SQUARED_STATISTICS,)

    def fuse(self, block: Block) -> Float64:
        """Return Σ λ F̂ δ / Σ λ F̂."""
        info, fisher_CN = block.info, block.statistics_CN
        if fisher_CN is None:
            return WeightedMean().fuse(block)
        require_none_negative(info.weights_C)
        weights_C = average(info.weights_C, info, "zero").deltas_C
        least_C, added = self._floor(info)
        rule = (weights_C * self._scale(info), least_C, added)
        if not is_numpy(fisher_CN):
            return cast(Float64, _average_by_rows(block.deltas_CN, fisher_CN, rule, weights_C))
        top_N, bottom_N = np.empty(len(block.base_N)), np.empty(len(block.base_N))
        _sum(block.deltas_CN, fisher_CN, rule, weights_C, np.empty((3, _TILE)), (top_N, bottom_N))
        return top_N / bottom_N

    def _scale(self, info: TensorInfo) -> Float64:
        """Return 1 / ‖F_i‖; 0 for a contribution that knows nothing at all."""
        norm_C = np.sqrt(info.measured["squared_statistics"])
        if not self.normalise:
            return np.ones_like(norm_C)
        return np.divide(1.0, norm_C, out=np.zeros_like(norm_C), where=norm_C > 0)

    def _floor(self, info: TensorInfo) -> tuple[Float64, float]:
        """Return each F_i's least value, and what is added to it."""
        squared_C = info.measured["squared_statistics"]
        match self.floor_rule:
            case "relative":
                own_C = squared_C if self.normalise else squared_C[info.weights_C != 0].max()
                mean_square_C = own_C / info.num_elements
                return np.full_like(squared_C, self.floor) * np.sqrt(mean_square_C), 0.0
            case "absolute":
                return np.full_like(squared_C, self.floor), 0.0
            case "added":
                return np.zeros_like(squared_C), self.floor


def _average_by_rows(
    deltas_CN: Array, fisher_CN: Array, rule: tuple[Float64, Float64, float], weights_C: Float64
) -> Array:
    """Do what `_sum` does, and divide, in operations on all elements at a time."""
    scale_C, least_C, added = rule
    xp = namespace(deltas_CN)
    top_N, bottom_N, mean_N = (xp.zeros_like(deltas_CN[0]) for _ in range(3))
    rows = zip(deltas_CN, fisher_CN, scale_C.tolist(), least_C.tolist(), weights_C.tolist(), strict=True)
    for delta_N, fisher_N, scale, least, weight in rows:
        known_N = scale * (xp.where(fisher_N > least, fisher_N, least) + added)
        top_N += known_N * delta_N
        bottom_N += known_N
        mean_N += weight * delta_N
    is_known_N, total = bottom_N > 0, float(np.cumsum(weights_C)[-1])  # summed one by one, as the kernel does
    return xp.where(is_known_N, top_N, mean_N) / xp.where(is_known_N, bottom_N, total)


@compiled
def _sum(deltas: Any, fisher: Any, rule: Any, weights: Any, sums: Any, out: Any) -> None:
    scale, least, added = rule
    top, bottom = out
    total = weights.sum()
    for first in range(0, top.size, sums.shape[1]):
        size = min(sums.shape[1], top.size - first)
        sums[:] = 0.0
        for i in range(weights.size):
            for k in range(size):
                known = fisher[i, first + k]
                known = scale[i] * ((known if known > least[i] else least[i]) + added)
                sums[0, k] += known * deltas[i, first + k]
                sums[1, k] += known
                sums[2, k] += weights[i] * deltas[i, first + k]
        for k in range(size):
            top[first + k] = sums[0, k] if sums[1, k] > 0 else sums[2, k]
            bottom[first + k] = sums[1, k] if sums[1, k] > 0 else total
