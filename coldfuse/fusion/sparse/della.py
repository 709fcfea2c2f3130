"""DELLA's MagPrune: drop entries at random, small ones more often than large ones (arXiv 2406.11617).

    p = (density − ε) + 2ε (r − 1) / (n − 1)      r = 1…n: the rank of |δ| in its row, ties by position
    δ ← m δ / p      m ~ Bernoulli(p)

A row is a run along the last dimension; p = density where it has one element. The paper then elects signs:
`della then ties(density=1)`. mergekit rescales each tensor by Σ |δ| / Σ |m δ| instead of 1 / p.
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


class Della(Transform):
    """Drops entries at random, small ones more often."""

    summary = "drop entries at random, small ones more often, rescale the others (DELLA)"
    source = "arXiv 2406.11617; its authors' code"
    whole_rows: ClassVar[bool] = True
    is_random: ClassVar[bool] = True

    density: float = Field(0.5, gt=0, le=1)
    """Fraction of entries that are expected to stay; in mergekit's variant 1 keeps all, whatever epsilon is."""
    epsilon: float = Field(0.05, ge=0, lt=1)
    """Distance ε of the probabilities to stay from density, to both sides; 0.15 by default in mergekit's variant."""
    rescale: bool = True
    """True to make the entries that stay larger for those that go."""
    variant: Variant = "paper"
    """Source that is followed: the paper rescales by 1 / p, mergekit by what keeps each tensor's L1 norm."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        return with_mergekit_defaults(values, {"epsilon": 0.15})

    @model_validator(mode="after")
    def _check(self) -> Della:
        keeps_all = self.variant == "mergekit" and self.density == 1
        if not keeps_all and (self.density - self.epsilon <= 0 or self.density + self.epsilon > 1):
            raise ValueError(
                f"density ± epsilon are probabilities, expected within (0, 1]; got {self.density} ± {self.epsilon}"
            )
        return self

    def measures(self) -> tuple[Measure, ...]:
        """L1 norms before and after, for mergekit's rescaling."""
        return (norms(self._drop),) if self.variant == "mergekit" and self.rescale else ()

    def varying(self) -> Varying:
        """The density and epsilon."""
        return {"density": BY_BOTH, "epsilon": BY_BOTH}

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Set δ ← m δ / p, or m δ · Σ |δ| / Σ |m δ|."""
        self._mask(deltas_RN, rows_R, block, by_probability=self.rescale and self.variant == "paper")
        if self.rescale and self.variant == "mergekit":
            deltas_RN *= norm_ratios(block.info)[rows_R, None]

    def _drop(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        self._mask(deltas_RN, rows_R, block, by_probability=False)

    def _mask(self, deltas_RN: Float64, rows_R: Rows, block: Block, *, by_probability: bool) -> None:
        info = block.info
        density_C, epsilon_C = info.values("density", self.density), info.values("epsilon", self.epsilon)
        for delta_N, i in zip(deltas_RN, rows_R, strict=True):
            if self.variant == "mergekit" and density_C[i] == 1:
                continue
            keep_RW = probabilities(delta_N.reshape(-1, info.row_elements), float(density_C[i]), float(epsilon_C[i]))
            _mask(delta_N, keep_RW.ravel(), info.keys_C[i], np.uint64(block.first), by_probability)


def probabilities(delta_RW: Float64, density: float, epsilon: float) -> Float64:
    """Return the probability p to stay of every element of R rows of W elements, ranked as float32.

    >>> probabilities(np.array([[3.0, -1.0, 2.0]]), density=0.5, epsilon=0.25)
    array([[0.75, 0.25, 0.5 ]])
    """
    width = delta_RW.shape[1]
    if width == 1:
        return np.full(delta_RW.shape, density)
    places_RW = np.empty(delta_RW.shape, np.uint64)
    _pack(delta_RW, places_RW)
    places_RW.sort(axis=1)
    keep_RW = np.empty(delta_RW.shape)
    _spread((density - epsilon) + 2 * epsilon * np.arange(width) / (width - 1), places_RW, keep_RW)
    return keep_RW


@compiled
def _pack(delta_RW: Any, places_RW: Any) -> None:
    """Put each entry's magnitude, as float32, before its place: sorted, the low bits tell which one has which rank."""
    for r in range(delta_RW.shape[0]):
        delta, places = delta_RW[r], places_RW[r]
        for k in range(delta.size):
            size = np.uint64(np.float32(abs(delta[k])).view(np.uint32))
            places[k] = (size << np.uint64(32)) | np.uint64(k)


@compiled
def _spread(rising_W: Any, places_RW: Any, keep_RW: Any) -> None:
    for r in range(places_RW.shape[0]):
        places, keep = places_RW[r], keep_RW[r]
        for k in range(places.size):
            keep[places[k] & np.uint64(0xFFFFFFFF)] = rising_W[k]


@compiled
def _mask(delta: Any, keep: Any, key: Any, first: Any, by_probability: Any) -> None:
    for k in range(delta.size):
        random = np.float64(splitmix64(key, first + np.uint64(k)) >> np.uint64(11)) * 2.0**-53
        factor = 1.0 / keep[k] if by_probability else 1.0
        delta[k] = delta[k] * factor if random < keep[k] else 0.0
