"""SLERP about the base instead of about zero: along the arc between two deltas.

    δ = sin((1 − t) ω) / sin ω · δ_1 + sin(t ω) / sin ω · δ_2,   cos ω = ⟨δ_1, δ_2⟩ / ‖δ_1‖ ‖δ_2‖
    t = w_2 / (w_1 + w_2)

mergekit's `nuslerp` with a base model. One angle a tensor (mergekit's default), or one a row of the stored matrix: what
mergekit does with `nuslerp_flatten: false` and `nuslerp_row_wise: false`, whatever these names say; its other choice,
one a column, is left out. Parallel, opposite and zero deltas are interpolated linearly.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from coldfuse.fusion.block import Block, Float64, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import Combiner, LinearCombination, LinearCombiner, Measure
from coldfuse.fusion.spherical.angles import arc
from coldfuse.fusion.spherical.sphere import deltas_on_sphere, straight_between_two

_PARALLEL = 1 - 1e-12
"""|cos ω| from which on a line is straight: rounding would blow up the arc between opposites. mergekit: 1 - 5e-17."""


class Nuslerp(LinearCombiner):
    """Go along the arc from one delta to another."""

    summary = "along the arc between two models, seen from the base"
    source = "mergekit 0.1.5, nuslerp with a base model"
    is_weighted: ClassVar[bool] = True

    def measures(self) -> tuple[Measure, ...]:
        """Inner products of the deltas, by tensor."""
        return (gram("tensor"),)

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c_1 = sin((1 − t) ω) / sin ω and c_2 = sin(t ω) / sin ω."""
        straight = straight_between_two(info, "nuslerp")
        deltas = deltas_on_sphere(info)
        cosine = deltas.cosines_CC[0, 1]
        if abs(cosine) > _PARALLEL or not deltas.lengths_C.all():
            return straight
        return LinearCombination(deltas_C=np.array(arc(cosine, *(straight.deltas_C / straight.divisor))))


class NuslerpRows(Combiner):
    """Go along the arc from each row of one delta to the same row of another."""

    summary = "along the arc between two models, seen from the base, row by row"
    source = "mergekit 0.1.5, nuslerp with a base model and nuslerp_flatten: false"
    is_weighted: ClassVar[bool] = True
    whole_rows: ClassVar[bool] = True

    def fuse(self, block: Block) -> Float64:
        """Turn row by row."""
        straight = straight_between_two(block.info, "nuslerp-rows")
        rows_CRI = block.deltas_CN.reshape(2, -1, max(1, block.info.row_elements))
        fused_RI = np.empty(rows_CRI.shape[1:])
        _fuse_rows(rows_CRI[0], rows_CRI[1], straight.deltas_C / straight.divisor, fused_RI)
        return fused_RI.ravel()


@compiled
def _fuse_rows(ones: Any, others: Any, weights: Any, out: Any) -> None:
    for r in range(out.shape[0]):
        _fuse_row(ones[r], others[r], weights, out[r])


@compiled
def _fuse_row(one: Any, other: Any, weights: Any, out: Any) -> None:
    one_one = one_other = other_other = 0.0
    for n in range(one.size):
        one_one += one[n] * one[n]
        one_other += one[n] * other[n]
        other_other += other[n] * other[n]
    lengths = math.sqrt(one_one) * math.sqrt(other_other)
    c, d = weights[0], weights[1]
    if lengths > 0 and abs(one_other) <= _PARALLEL * lengths:
        c, d = arc(one_other / lengths, c, d)
    for n in range(one.size):
        out[n] = c * one[n] + d * other[n]
