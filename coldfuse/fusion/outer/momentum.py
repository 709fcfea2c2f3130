"""Momentum: the base keeps moving the way it moved (FedAvgM).

    u ← β u + Δ      θ ← θ + η u

arXiv 1909.06335, equation 1, in which v = −u and the pseudo-gradient is −Δ. In the long run a steady Δ moves the base
by η / (1 − β) of it: 10 times, with the defaults. β = 0.9 is the usual value; Flower's default of 0 has no momentum.
"""

from __future__ import annotations

from pydantic import Field

from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import Outer


class Momentum(Outer):
    """A step along a decaying sum of fused deltas."""

    summary = "the base keeps moving the way it moved (FedAvgM)"
    source = "arXiv 1909.06335"
    slots = ("momentum",)

    lr: float = Field(1.0, gt=0)
    """Step size η: the share of the momentum that the base moves by."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Decay β: the share of the momentum that is left after a round."""

    def step(
        self,
        delta_N: Float64,
        state: tuple[Float64, ...],
        *,
        age: int,  # noqa: ARG002
    ) -> tuple[Float64, tuple[Float64, ...]]:
        """Return η times the direction, and u."""
        (before_N,) = state
        momentum_N = self.momentum * before_N + delta_N
        return self.lr * self.direction(delta_N, momentum_N), (momentum_N,)

    def direction(self, delta_N: Float64, momentum_N: Float64) -> Float64:  # noqa: ARG002
        """Return where the base moves: along u."""
        return momentum_N
