"""TIES-Merging: trim, elect a sign, merge the contributions that have it (arXiv 2306.01708, section 4).

    τ_i = the entries of δ_i that are at least as large as its k-th smallest, k = d − int(d · density)      (`trim`)
    γ = sgn(Σ_i τ_i)      A = {i : sgn(τ_i) = γ}      δ = scale · Σ_A τ_i / |A|

Where Σ_i τ_i is exactly 0, the side with more contributions wins; with as many on both, the element stays, as the
paper's equation has it. The authors' code takes the sign that won most of the model's other elements
(`zero_votes=model`), which costs a pass over the model.

mergekit trims within each tensor, votes with w_i τ_i, divides by Σ_A w_i, and a vote of 0 is for +.
After transforms that make deltas sparse (`dare then ties(density=1)`), nothing is trimmed or measured.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from coldfuse.fusion.block import Block, Float64, TensorInfo
from coldfuse.fusion.method import BY_TENSOR, Combiner, Measure, Sums, Variant, Varying
from coldfuse.fusion.rows import DeltaRows
from coldfuse.fusion.sparse.election import elect, elect_rows
from coldfuse.fusion.sparse.rescaling import with_mergekit_defaults
from coldfuse.fusion.sparse.trim import thresholds, trimming, varying_density


class Ties(Combiner):
    """Trim, elect a sign, merge what has it."""

    summary = "keep large entries, let signs vote, average those that agree (TIES)"
    source = "arXiv 2306.01708, section 4; its authors' code"

    density: float = Field(0.2, gt=0, le=1)
    """Fraction of each contribution's entries that are kept; 1 keeps all, the default in mergekit's variant."""
    scale: float = 1.0
    """Factor λ of the merged delta."""
    merge: Literal["mean", "sum"] = "mean"
    """Combination of those that agree: their average, or their sum."""
    zero_votes: Literal["element", "model"] = "element"
    """Decision where a vote is 0: by the number of contributions on each side, or as in most other elements."""
    variant: Variant = "paper"
    """Source that is followed: the paper trims over the whole model and counts every contribution the same; mergekit
    trims tensors and weighs."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        return with_mergekit_defaults(values, {"density": 1.0})

    @property
    def is_weighted(self) -> bool:  # type: ignore[override]
        """True if weights count: in mergekit's variant."""
        return self.variant == "mergekit"

    def measures(self) -> tuple[Measure, ...]:
        """Each contribution's threshold, and how the votes go."""
        trims = trimming(self.density, self.variant)
        if self.variant == "paper" and self.zero_votes == "model":
            return (*trims, Sums(name="majority", of=_majority))
        return trims

    def varying(self) -> Varying:
        """The density and the scale."""
        return {**varying_density(self.variant), "scale": BY_TENSOR}

    def fuse(self, block: Block) -> Float64:
        """Return scale · the mean (or sum) of the kept entries that have the elected sign."""
        return self._scaled(elect(block.deltas_CN, **self._rules(block.info)), block.info)

    def fuse_rows(self, info: TensorInfo, rows: DeltaRows) -> tuple[Float64, bool]:
        """Do the same with deltas as they lie in their files."""
        fused_N, is_finite = elect_rows(rows, **self._rules(info))
        return self._scaled(fused_N, info), is_finite

    def _rules(self, info: TensorInfo) -> dict[str, Any]:
        weights_C = info.weights_C if self.is_weighted else np.ones(info.num_contributions)
        return {
            "thresholds_C": thresholds(info),
            "votes_C": weights_C,
            "weights_C": weights_C,
            "lean": self._lean(info),
            "mean": self.merge == "mean",
        }

    def _scaled(self, fused_N: Float64, info: TensorInfo) -> Float64:
        scale = info.value("scale", self.scale)
        return fused_N if scale == 1 else fused_N * scale

    def _lean(self, info: TensorInfo) -> float:
        if self.variant == "mergekit":
            return 1.0
        return float(np.sign(info.measured["majority"][0])) if self.zero_votes == "model" else 0.0


def _majority(block: Block) -> Float64:
    vote_N = np.zeros(len(block.base_N))
    for delta_N, threshold in zip(block.deltas_CN, thresholds(block.info), strict=True):
        vote_N += np.where(np.abs(delta_N).astype(np.float32) >= np.float32(threshold), delta_N, 0.0)
    return np.array([np.sign(vote_N).sum()])
