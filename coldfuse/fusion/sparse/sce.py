"""SCE: select what varies, calculate weights, erase minorities (FuseChat, arXiv 2408.07990).

    S: keep the int(top · n) elements of each tensor with the largest variance over contributions
    C: w_i = Σ_n δ_in² / Σ_j Σ_n δ_jn² over each tensor, after S
    E: γ = sgn(Σ_i δ_i), 0 counts as +      A = {i : sgn(δ_i) = γ}      δ = Σ_A w_i δ_i / Σ_A w_i

Elements are ranked by their standard deviation (as float32, which holds smaller deltas than their variance); those
that tie with the last one selected stay. mergekit's version is not followed where it fails: it takes uniform weights,
without saying so, where the mean squares sum to less than 1e-6, and 1e-6 for a smaller Σ_A w_i, which shrinks the
delta. Also, it takes `top` of the elements whose variance is not 0, not of all.
"""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
from pydantic import Field

from coldfuse.fusion.arrays import divide, namespace, sizes
from coldfuse.fusion.block import Array, Block, Float64
from coldfuse.fusion.method import Combiner, Measure, Ranked, Sums
from coldfuse.fusion.products import inner_products
from coldfuse.fusion.sparse.election import elect


class Sce(Combiner):
    """Selects what varies, weighs by size, erases minority signs."""

    summary = "select what varies, weigh by squared size, erase minority signs (SCE)"
    source = "arXiv 2408.07990"

    on_device: ClassVar[bool] = True

    select_topk: float = Field(1.0, gt=0, le=1)
    """Fraction of each tensor's elements that are fused: those that vary most; 1 fuses all."""

    def measures(self) -> tuple[Measure, ...]:
        """Each tensor's smallest variance to be fused, then each contribution's squares."""
        squares = Sums(name="squares", of=self._squares, per="tensor")
        if self.select_topk == 1:
            return (squares,)
        spread = Ranked(
            name="spread", of=lambda block: _spread(block)[None], ranks=self._ranks, per="tensor", on_device=True
        )
        return (spread, squares)

    def fuse(self, block: Block) -> Float64:
        """Return the weighted mean of the entries that have the elected sign."""
        squares_C = block.facts.measured["squares"]
        if not squares_C.any():
            return cast(Float64, namespace(block.base_N).zeros_like(block.base_N))
        fused_N = elect(block.deltas_CN, weights_C=squares_C / squares_C.max(), lean=1.0)
        if self.select_topk == 1:
            return fused_N
        return cast(Float64, namespace(fused_N).where(self._selected(block), fused_N, 0.0))

    def _squares(self, block: Block) -> Float64:
        selected_N = self._selected(block) if self.select_topk < 1 else slice(None)
        return np.array([inner_products(delta_N[selected_N][None])[0, 0] for delta_N in block.deltas_CN])

    def _selected(self, block: Block) -> Array:
        return sizes(_spread(block)) >= float(block.facts.measured["spread"][0, 0])

    def _ranks(self, count: int) -> tuple[int]:
        return (count - max(1, int(self.select_topk * count)),)


def _spread(block: Block) -> Float64:
    """Return the standard deviation of each element over the contributions."""
    xp, count = namespace(block.deltas_CN), len(block.deltas_CN)
    sum_N, variance_N = xp.zeros_like(block.deltas_CN[0]), xp.zeros_like(block.deltas_CN[0])
    for delta_N in block.deltas_CN:
        sum_N += delta_N
    mean_N = divide(sum_N, count)
    for delta_N in block.deltas_CN:
        variance_N += (delta_N - mean_N) * (delta_N - mean_N)
    return cast(Float64, xp.sqrt(divide(variance_N, count)))
