"""SCE: select what varies, calculate weights, erase minorities (FuseChat, arXiv 2408.07990).

    S: of each tensor's n₊ elements that vary over contributions, keep the int(top · n₊) with the largest variance
    C: w_i = Σ_n δ_in² / Σ_j Σ_n δ_jn² over each tensor, after S
    E: γ = sgn(Σ_i δ_i), 0 counts as +      A = {i : sgn(δ_i) = γ}      δ = Σ_A w_i δ_i / Σ_A w_i

Elements are ranked by their standard deviation (as float32, which holds smaller deltas than their variance); those
that tie with the last one selected stay, and one at least.

mergekit keeps none where top · n₊ is under 1, and takes the same weight for all, without saying so, where the mean
squares of a tensor sum to less than 1e-6. Not followed: it takes 1e-6 for a smaller Σ_A w_i.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from coldfuse.fusion.block import Block, Float64, TensorInfo
from coldfuse.fusion.method import BY_TENSOR, Combiner, Measure, Ranked, Sums, Variant, Varying
from coldfuse.fusion.products import inner_products
from coldfuse.fusion.sparse.election import elect

_SMALL = 1e-6


class Sce(Combiner):
    """Selects what varies, weighs by size, erases minority signs."""

    summary = "select what varies, weigh by squared size, erase minority signs (SCE)"
    source = "arXiv 2408.07990"

    select_topk: float = Field(1.0, gt=0, le=1)
    """Fraction of each tensor's varying elements that are fused: those that vary most; 1 fuses all."""
    variant: Variant = "paper"
    """Source that is followed: mergekit weighs all contributions alike in tensors with small deltas."""

    def measures(self) -> tuple[Measure, ...]:
        """How many elements vary in each tensor, the smallest variance to be fused, each contribution's squares."""
        squares = Sums(name="squares", of=self._squares, per="tensor")
        if self.select_topk == 1:
            return (squares,)
        spread = Ranked(
            name="spread",
            of=lambda block: _spread(block)[None],
            ranks=self._ranks,
            per="tensor",
            rows=lambda _: 1,
        )
        return (Sums(name="moving", of=_count_moving, per="tensor"), spread, squares)

    def varying(self) -> Varying:
        """The fraction that is selected."""
        return {"select_topk": BY_TENSOR}

    def fuse(self, block: Block) -> Float64:
        """Return the weighted mean of the entries that have the elected sign."""
        weights_C = self._weights(block.info)
        if not weights_C.any():
            return np.zeros_like(block.base_N)
        fused_N = elect(block.deltas_CN, weights_C=weights_C, lean=1.0)
        if block.info.value("select_topk", self.select_topk) == 1:
            return fused_N
        return np.where(self._selected(block), fused_N, 0.0)

    def _weights(self, info: TensorInfo) -> Float64:
        """Return w_i up to a common factor; zeros where nothing is to be fused."""
        squares_C = info.measured["squares"]
        if self.variant == "mergekit" and squares_C.sum() < _SMALL * math.prod(info.shape):
            squares_C = np.ones_like(squares_C)
        share = info.value("select_topk", self.select_topk)
        is_none = share < 1 and self.variant == "mergekit" and _num_selected(info.measured, share) < 1
        return np.zeros_like(squares_C) if is_none or not squares_C.any() else squares_C / squares_C.max()

    def _squares(self, block: Block) -> Float64:
        is_all = block.info.value("select_topk", self.select_topk) == 1
        selected_N = slice(None) if is_all else self._selected(block)
        return np.array([inner_products(delta_N[selected_N][None])[0, 0] for delta_N in block.deltas_CN])

    def _selected(self, block: Block) -> NDArray[np.bool_]:
        return _spread(block).astype(np.float32) >= float(block.info.measured["spread"][0, 0])

    def _ranks(self, count: int, known: Mapping[str, Float64]) -> tuple[int]:
        share = float(known["select_topk"][0]) if "select_topk" in known else self.select_topk
        return (count - max(1, _num_selected(known, share)),)


def _num_selected(known: Mapping[str, Float64], share: float) -> int:
    return int(share * float(known["moving"][0])) if "moving" in known else 1


def _count_moving(block: Block) -> Float64:
    return np.array([np.count_nonzero(_spread(block).astype(np.float32))], np.float64)


def _spread(block: Block) -> Float64:
    """Return the standard deviation of each element over the contributions."""
    count, sum_N, variance_N = len(block.deltas_CN), np.zeros_like(block.base_N), np.zeros_like(block.base_N)
    for delta_N in block.deltas_CN:
        sum_N += delta_N
    mean_N = sum_N / count
    for delta_N in block.deltas_CN:
        variance_N += (delta_N - mean_N) * (delta_N - mean_N)
    return np.sqrt(variance_N / count)
