"""Stop halfway to the fused model, or go past it.

    interpolate   θ = (1 − α) θ_0 + α θ_1     WiSE-FT, arXiv 2109.01903, section 3; PAINT, arXiv 2208.05592
    extrapolate   θ = θ_1 + α (θ_1 − θ_0)     ExPO, arXiv 2404.16792

θ_0 is the base, θ_1 the fused model. One α for each of several tasks is task arithmetic with the α as weights and a
scale of 1.
"""

from __future__ import annotations

from pydantic import Field

from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import Outer


class Interpolate(Outer):
    """Go a part of the way from the base to the fused model."""

    summary = "a part of the way from the base to the fused model (WiSE-FT, PAINT)"
    source = "arXiv 2109.01903, section 3"

    alpha: float = Field(default=0.5, ge=0, le=1)
    """Share α of the way: 0 is the base, 1 the fused model; WiSE-FT recommends 0.5 where nothing can be validated."""

    @property
    def factor(self) -> float:
        """The share α."""
        return self.alpha

    def step(self, delta_N: Float64, state: tuple[Float64, ...], *, age: int) -> tuple[Float64, tuple[Float64, ...]]:  # noqa: ARG002
        """Return α Δ."""
        return self.factor * delta_N, ()


class Extrapolate(Outer):
    """Go on beyond the fused model, in the direction that leads to it from the base."""

    summary = "beyond the fused model, away from the base (ExPO)"
    source = "arXiv 2404.16792"

    alpha: float = Field(default=0.3, ge=0)
    """Share α of the way that is gone beyond: 0 is the fused model; 0.1 to 0.5 were found good."""

    @property
    def factor(self) -> float:
        """1 + α."""
        return 1 + self.alpha

    def step(self, delta_N: Float64, state: tuple[Float64, ...], *, age: int) -> tuple[Float64, tuple[Float64, ...]]:  # noqa: ARG002
        """Return (1 + α) Δ."""
        return self.factor * delta_N, ()
