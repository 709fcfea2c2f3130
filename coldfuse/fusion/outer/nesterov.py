"""Nesterov momentum: DiLoCo's outer optimiser.

    u ← μ u + Δ      θ ← θ + η (Δ + μ u)

arXiv 2311.08105, section 2; the same as PyTorch's SGD with `nesterov=True` on the pseudo-gradient −Δ, where v = −u. In
the long run a steady Δ moves the base by η / (1 − μ) of it: 7 times, with the paper's values, which are the defaults.
"""

from __future__ import annotations

from pydantic import Field

from coldfuse.fusion.block import Float64
from coldfuse.fusion.outer.momentum import Momentum


class Nesterov(Momentum):
    """A step along the fused delta and the momentum that it makes."""

    summary = "Nesterov momentum, the outer optimiser of DiLoCo"
    source = "arXiv 2311.08105"

    lr: float = Field(0.7, gt=0)
    """Step size η: the share of the sum that the base moves by."""

    def direction(self, delta_N: Float64, momentum_N: Float64) -> Float64:
        """Return where the base moves: along Δ + μ u."""
        return delta_N + self.momentum * momentum_N
