"""TIES's first step alone: keep the largest entries of each contribution, set the others to zero.

    m_i = float32(|δ_i|) ≥ the k-th smallest of them, k = d − int(d · density)      δ_i ← m_i δ_i

over the whole model of d elements, as in the authors' code (arXiv 2306.01708), so int(d · density) + 1 entries stay.
mergekit keeps int(density · n), at least 1, of each tensor. Entries that tie with the last one kept stay too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from coldfuse.fusion.block import Block, Float64, Rows, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import (
    BY_BOTH,
    BY_CONTRIBUTION,
    Measure,
    Ranked,
    Ranks,
    Scope,
    Transform,
    Variant,
    Varying,
)
from coldfuse.fusion.sparse.rescaling import with_mergekit_defaults


class Trim(Transform):
    """Keeps the largest entries of each contribution."""

    summary = "keep the largest entries of each contribution (the first step of TIES)"
    source = "arXiv 2306.01708, section 4; its authors' code"

    density: float = Field(0.2, gt=0, le=1)
    """Fraction of entries that stay; 1 keeps all, the default in mergekit's variant."""
    variant: Variant = "paper"
    """Source that is followed: the paper ranks over the whole model, mergekit within each tensor."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        return with_mergekit_defaults(values, {"density": 1.0})

    def measures(self) -> tuple[Measure, ...]:
        """Each contribution's threshold."""
        return trimming(self.density, self.variant)

    def varying(self) -> Varying:
        """The density."""
        return varying_density(self.variant)

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Set entries below the threshold to zero."""
        _trim(deltas_RN, thresholds(block.info)[rows_R])


def trimming(density: float, variant: Variant) -> tuple[Measure, ...]:
    """Measure what `thresholds` reads; nothing if all entries are kept."""

    def ranks(count: int, known: Mapping[str, Float64]) -> Ranks:
        kept_R = (count * np.atleast_1d(known.get("density", density))).astype(np.int64)
        # Of a density of 1, which keeps all where others do not, the rank is the smallest one's.
        rank_R = np.maximum(count - kept_R - 1, 0) if variant == "paper" else count - np.maximum(kept_R, 1)
        return rank_R if "density" not in known else rank_R[:, None]

    if density == 1:
        return ()
    per: Scope = "model" if variant == "paper" else "tensor"
    return (Ranked(name="thresholds", of=_deltas, ranks=ranks, per=per, of_deltas=True),)


def varying_density(variant: Variant) -> Varying:
    """Say what densities may differ between: the paper ranks over the whole model, with one for all its tensors."""
    return {"density": BY_CONTRIBUTION if variant == "paper" else BY_BOTH}


def thresholds(info: TensorInfo) -> Float64:
    """Return what `trimming` measured, shape (C,); zeros, which keep all entries, if there was nothing to measure."""
    measured_C1 = info.measured.get("thresholds")
    return np.zeros(info.num_contributions) if measured_C1 is None else measured_C1[:, 0]


def _deltas(block: Block) -> Float64:
    return block.deltas_CN


@compiled
def _trim(deltas: Any, thresholds: Any) -> None:
    for r in range(thresholds.size):
        delta, least = deltas[r], np.float32(thresholds[r])
        for k in range(delta.size):
            delta[k] = delta[k] if np.float32(abs(delta[k])) >= least else 0.0
