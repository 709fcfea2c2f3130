"""Reinforced Agent Merging: what one contribution alone changes is added whole, what several change is averaged.

    A = {i : |δ_i| > ε}      δ = Σ_A δ_i / |A|                                  (RAM, arXiv 2601.13572)
    δ = δ_i · (1 + r · min(s_i / u_i, α)) where A = {i}                         (RAM+)

s_i and u_i count the elements that contribution i changes with others and alone. ε is absolute, as its source has it:
choose it below the deltas that matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Combiner, Measure, Sums, Variant

_TILE = 512
"""Elements whose sums are kept in the processor's first cache while the contributions are read one after the other."""


class Ram(Combiner):
    """Adds what one contribution alone changes, averages what several change."""

    summary = "add what one contribution alone changes, average what several change (RAM)"
    source = "arXiv 2601.13572; mergekit 0.1.5"

    epsilon: float = Field(1e-5, ge=0)
    """Largest change ε that counts as none."""

    def fuse(self, block: Block) -> Float64:
        """Return the mean over the contributions that change an element."""
        return _fuse(block, np.ones(block.info.num_contributions), self.epsilon)


class RamPlus(Combiner):
    """RAM that makes up for what averaging takes from a contribution's shared elements."""

    summary = "as ram, with lone changes made larger where many others are shared (RAM+)"
    source = "arXiv 2601.13572; mergekit 0.1.5 (ramplus_tl)"

    epsilon: float = Field(1e-5, ge=0)
    """Largest change ε that counts as none."""
    r: float = Field(0.1, ge=0)
    """Growth r of lone changes with the ratio of shared to lone ones."""
    alpha: float = Field(0.2, ge=0)
    """Largest ratio α that counts."""
    variant: Variant = "paper"
    """Source that is followed: the paper counts elements over the whole model, mergekit within each tensor."""

    def measures(self) -> tuple[Measure, ...]:
        """How many elements each contribution changes with others, and alone."""
        return (Sums(name="counts", of=self._counts, per="model" if self.variant == "paper" else "tensor"),)

    def fuse(self, block: Block) -> Float64:
        """Return the mean over the contributions that change an element, or the lone change, made larger."""
        shared_C, lone_C = block.info.measured["counts"].T
        return _fuse(block, 1 + self.r * np.minimum(shared_C / np.maximum(lone_C, 1), self.alpha), self.epsilon)

    def _counts(self, block: Block) -> Float64:
        active_N = np.zeros(len(block.base_N))
        for delta_N in block.deltas_CN:
            active_N += np.abs(delta_N) > self.epsilon
        own = [active_N[np.abs(delta_N) > self.epsilon] for delta_N in block.deltas_CN]
        return np.array([[np.count_nonzero(a > 1), np.count_nonzero(a == 1)] for a in own], np.float64)


def _fuse(block: Block, gains_C: Float64, epsilon: float) -> Float64:
    fused_N = np.empty(len(block.base_N))
    _merge(block.deltas_CN, gains_C, epsilon, np.empty(3 * _TILE), fused_N)
    return fused_N


@compiled
def _merge(deltas: Any, gains: Any, epsilon: Any, sums: Any, out: Any) -> None:
    for first in range(0, out.size, _TILE):
        width = min(_TILE, out.size - first)
        sums[:] = 0.0  # |A|, Σ_A δ, Σ_A gain δ
        for i in range(deltas.shape[0]):
            gain = gains[i]
            for k in range(width):
                delta = deltas[i, first + k]
                active = abs(delta) > epsilon
                sums[k] += 1.0 if active else 0.0
                sums[_TILE + k] += delta if active else 0.0
                sums[2 * _TILE + k] += delta * gain if active else 0.0
        for k in range(width):
            out[first + k] = sums[2 * _TILE + k] if sums[k] == 1.0 else sums[_TILE + k] / max(sums[k], 1.0)
