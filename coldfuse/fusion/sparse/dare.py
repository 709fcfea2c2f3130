"""DARE: drop entries at random, and rescale the others so that the expectation stays (arXiv 2311.03099).

    δ ← m δ / (1 − p)      m ~ Bernoulli(1 − p) for every element

The mask depends on round, contribution, tensor and element alone (`random`). mergekit rescales each tensor by
Σ |δ| / Σ |m δ| instead of 1 / (1 − p).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from coldfuse.fusion.block import Block, Float64, Rows
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import BY_BOTH, Measure, Transform, Variant, Varying
from coldfuse.fusion.random import splitmix64
from coldfuse.fusion.sparse.rescaling import norm_ratios, norms, with_mergekit_defaults


class Dare(Transform):
    """Drops entries at random and rescales the others."""

    summary = "drop entries at random, rescale the others (DARE)"
    source = "arXiv 2311.03099"
    is_random: ClassVar[bool] = True

    drop: float = Field(0.5, ge=0, lt=1)
    """Probability p that an entry is dropped; 0 by default in mergekit's variant."""
    rescale: bool = True
    """True to make the entries that stay larger for those that go."""
    variant: Variant = "paper"
    """Source that is followed: the paper rescales by 1 / (1 − p), mergekit by what keeps each tensor's L1 norm."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        return with_mergekit_defaults(values, {"drop": 0.0})

    def measures(self) -> tuple[Measure, ...]:
        """L1 norms before and after, for mergekit's rescaling."""
        return (norms(self._drop),) if self.variant == "mergekit" and self.rescale and self.drop > 0 else ()

    def varying(self) -> Varying:
        """The probability to drop."""
        return {"drop": BY_BOTH}

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Set δ ← m δ · factor."""
        factors_R, drop_R = np.ones(len(rows_R)), block.info.values("drop", self.drop)[rows_R]
        if self.rescale and self.drop > 0:
            factors_R = norm_ratios(block.info)[rows_R] if self.variant == "mergekit" else factors_R / (1 - drop_R)
        self._drop(deltas_RN, rows_R, block, factors_R)

    def _drop(self, deltas_RN: Float64, rows_R: Rows, block: Block, factors_R: Float64 | None = None) -> None:
        drop_R = block.info.values("drop", self.drop)[rows_R]
        least_R = np.ceil(drop_R * 2.0**53).astype(np.uint64)  # u ≥ p, in units of 2⁻⁵³
        factors_R = np.ones(len(rows_R)) if factors_R is None else factors_R
        keys_R = block.info.keys_C[rows_R]
        _mask(deltas_RN, keys_R, np.uint64(block.first), least_R, factors_R)


@compiled
def _mask(deltas: Any, keys: Any, first: Any, leasts: Any, factors: Any) -> None:
    for r in range(keys.size):
        delta, key, least, factor = deltas[r], keys[r], leasts[r], factors[r]
        for k in range(delta.size):
            random = splitmix64(key, first + np.uint64(k)) >> np.uint64(11)
            delta[k] = delta[k] * factor if random >= least else 0.0
