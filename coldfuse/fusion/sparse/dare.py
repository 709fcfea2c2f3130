"""DARE: drop entries at random, and rescale the others so that the expectation stays (arXiv 2311.03099).

    δ ← m δ / (1 − p)      m ~ Bernoulli(1 − p) for every element

The mask depends on round, contribution, tensor and element alone (`chance`). mergekit rescales each tensor by
Σ |δ| / Σ |m δ| instead of 1 / (1 − p).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from coldfuse.fusion.arrays import is_numpy, namespace
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.chance import random_bits, splitmix64
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Flavour, Measure, Transform
from coldfuse.fusion.sparse.rescaling import norm_ratio, norms


class Dare(Transform):
    """Drops entries at random and rescales the others."""

    summary = "drop entries at random, rescale the others (DARE)"
    source = "arXiv 2311.03099"
    on_device: ClassVar[bool] = True

    drop: float = Field(0.5, ge=0, lt=1)
    """Probability p that an entry is dropped."""
    rescale: bool = True
    """Whether the entries that stay are made larger for those that go."""
    flavour: Flavour = "paper"
    """paper rescales by 1 / (1 − p), mergekit by what keeps each tensor's L1 norm."""

    def measures(self) -> tuple[Measure, ...]:
        """L1 norms before and after, for mergekit's rescaling."""
        return (norms(self._drop),) if self.flavour == "mergekit" and self.rescale and self.drop > 0 else ()

    def transform(self, delta_N: Float64, index: int, block: Block) -> None:
        """Return δ ← m δ · factor."""
        factor = 1.0
        if self.rescale and self.drop > 0:
            factor = norm_ratio(block.facts, index) if self.flavour == "mergekit" else 1 / (1 - self.drop)
        self._drop(delta_N, index, block, factor)

    def _drop(self, delta_N: Float64, index: int, block: Block, factor: float = 1.0) -> None:
        least = math.ceil(self.drop * 2**53)  # u ≥ p, in units of 2⁻⁵³
        key = block.facts.keys_C[index]
        if is_numpy(delta_N):
            _mask(delta_N, key, np.uint64(block.first), np.uint64(least), factor)
        else:
            is_kept_N = random_bits(int(key), block.first, delta_N) >= least
            delta_N[...] = namespace(delta_N).where(is_kept_N, delta_N * factor, 0.0)


@compiled
def _mask(delta: Any, key: Any, first: Any, least: Any, factor: Any) -> None:
    for k in range(delta.size):
        random = splitmix64(key, first + np.uint64(k)) >> np.uint64(11)
        delta[k] = delta[k] * factor if random >= least else 0.0
