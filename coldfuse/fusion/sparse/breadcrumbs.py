"""Model Breadcrumbs: drop a delta's small entries, and its outliers too (arXiv 2312.06795).

    of each row's n entries, sorted by |δ|: drop the int(γ n) largest, keep the int(β n) next ones, drop the others

Bounds are values: what ties with one stays; at least one entry of a row is kept. A row runs along the last dimension.
mergekit ranks within each tensor (as float32), and drops fewer outliers where β n entries would not be left.
The paper adds the masked deltas up: `breadcrumbs then task-arithmetic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from coldfuse.fusion.block import Block, Float64, Rows
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import BY_BOTH, Measure, Ranked, Ranks, Transform, Variant, Varying
from coldfuse.fusion.sparse.rescaling import with_mergekit_defaults


class Breadcrumbs(Transform):
    """Drops small entries and outliers."""

    summary = "drop small entries, and the very largest too (Model Breadcrumbs)"
    source = "arXiv 2312.06795; its authors' code"
    whole_rows: ClassVar[bool] = True

    density: float = Field(0.15, gt=0, le=1)
    """Fraction β of entries that are kept; 1 by default in mergekit's variant, which then drops no outliers either."""
    gamma: float = Field(0.006, ge=0, lt=1)
    """Fraction γ of entries that are dropped for being the largest; 0.01 by default in mergekit's variant."""
    variant: Variant = "paper"
    """Source that is followed: the paper ranks within each row, mergekit within each tensor."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        return with_mergekit_defaults(values, {"density": 1.0, "gamma": 0.01})

    def measures(self) -> tuple[Measure, ...]:
        """Each tensor's smallest and largest entry to keep, for mergekit's variant."""
        if self.variant == "paper" or self.density == 1:
            return ()
        return (Ranked(name="bounds", of=_deltas, ranks=self._tensor_ranks, per="tensor"),)

    def varying(self) -> Varying:
        """The density and gamma."""
        return {"density": BY_BOTH, "gamma": BY_BOTH}

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Set what lies outside the bounds to zero."""
        if self.variant == "paper":
            info = block.info
            density_C, gamma_C = info.values("density", self.density), info.values("gamma", self.gamma)
            for delta_N, i in zip(deltas_RN, rows_R, strict=True):
                self._mask_rows(delta_N.reshape(-1, info.row_elements), density_C[i], gamma_C[i])
        elif self.density < 1:
            _keep_within(deltas_RN, block.info.measured["bounds"][rows_R].astype(np.float32))

    def _mask_rows(self, delta_RW: Float64, density: float, gamma: float) -> None:
        size_RW = np.abs(delta_RW.astype(np.float32))
        size_RW.sort(axis=1)  # on current processors several times faster than finding just the two ranks
        _keep_within(delta_RW, size_RW[:, self._ranks(size_RW.shape[1], density, gamma)])

    def _tensor_ranks(self, count: int, known: Mapping[str, Float64]) -> Ranks:
        pairs = np.broadcast(known.get("density", self.density), known.get("gamma", self.gamma))
        ranks = np.array([self._ranks(count, density, gamma) for density, gamma in pairs])
        return ranks if pairs.ndim else ranks[0]

    def _ranks(self, count: int, density: float, gamma: float) -> list[int]:
        kept, outliers = max(1, int(density * count)), int(gamma * count)
        first = max(0, count - kept - outliers)
        if self.variant == "mergekit":
            return [first, first + kept - 1]
        return [first, max(first, count - outliers - 1)]


@compiled
def _keep_within(delta_RW: Any, bounds_R2: Any) -> None:
    for r in range(delta_RW.shape[0]):
        delta, least, most = delta_RW[r], bounds_R2[r, 0], bounds_R2[r, 1]
        for k in range(delta.size):
            size = np.float32(abs(delta[k]))
            delta[k] = delta[k] if least <= size <= most else 0.0


def _deltas(block: Block) -> Float64:
    return block.deltas_CN
