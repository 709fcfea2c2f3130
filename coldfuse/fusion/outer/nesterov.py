"""Nesterov momentum: DiLoCo's outer optimiser.

    u ← μ u + Δ      θ ← θ + η (Δ + μ u)

arXiv 2311.08105, section 2; the same as PyTorch's SGD with `nesterov=True` on the pseudo-gradient −Δ, where v = −u. In
the long run a steady Δ moves the base by η / (1 − μ) of it: 7 times, with the paper's values, which are the defaults.
"""

from __future__ import annotations

from pydantic import Field

from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import Outer


class Nesterov(Outer):
    """A step along the fused delta and the momentum that it makes."""

    summary = "Nesterov momentum, the outer optimiser of DiLoCo"
    source = "arXiv 2311.08105"
    slots = ("momentum",)

    lr: float = Field(0.7, gt=0)
    """η: the share of the sum that the base moves by."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """μ: the share of the momentum that is left after a round."""

    def step(
        self,
        delta_N: Float64,
        state: tuple[Float64, ...],
        *,
        age: int,  # noqa: ARG002
    ) -> tuple[Float64, tuple[Float64, ...]]:
        """Return η (Δ + μ u), and u."""
        (before_N,) = state
        momentum_N = self.momentum * before_N + delta_N
        return self.lr * (delta_N + self.momentum * momentum_N), (momentum_N,)
