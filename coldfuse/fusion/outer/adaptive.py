"""Adaptive outer optimisers: each element's step is divided by how much its fused deltas have varied.

    m ← β₁ m + (1 − β₁) Δ      v ← by method      θ ← θ + η m / (√v + τ)

    FedAdagrad: v ← v + Δ²      FedAdam: v ← β₂ v + (1 − β₂) Δ²      FedYogi: v ← v − (1 − β₂) Δ² sgn(v − Δ²)

arXiv 2003.00295, algorithm 2, which asks for v₋₁ ≥ τ²: here v₋₁ = τ². Flower starts at 0. τ has the unit of a delta:
where deltas are much smaller all elements are divided by about the same 2 τ, and where they are larger each moves by
about η. So set η and τ to the size of the deltas that fine-tuning makes.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import Outer


class Adaptive(Outer):
    """What the three have in common."""

    source = "arXiv 2003.00295, algorithm 2"
    slots = ("first_moment", "second_moment")

    lr: float = Field(0.1, gt=0)
    """Step size η: the length of an element's step."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay β₁: the share of the mean delta m that is left after a round."""
    tau: float = Field(1e-3, gt=0)
    """Smallest divisor τ: deltas much smaller than this are not scaled up to η."""
    bound: float | None = Field(None, gt=0)
    """Largest |Δ| that counts, in units of √v + τ: one that is far larger would make v so large that the element moves
    no more for hundreds of rounds, with FedAdagrad and FedYogi for ever. Any counts if not set, as in the paper."""

    def step(self, delta_N: Float64, state: tuple[Float64, ...], *, age: int) -> tuple[Float64, tuple[Float64, ...]]:
        """Return η m / (√v + τ), and m and v."""
        first_N, second_N = state
        if age == 0:
            second_N = np.full_like(second_N, self._initial())
        if self.bound is not None:
            most_N = self.bound * (np.sqrt(second_N) + self.tau)
            delta_N = np.clip(delta_N, -most_N, most_N)
        first_N = self.beta1 * first_N + (1 - self.beta1) * delta_N
        second_N = self._second_moment(second_N, delta_N * delta_N)
        return self._rate(age) * first_N / (np.sqrt(second_N) + self.tau), (first_N, second_N)

    def _initial(self) -> float:
        return self.tau**2

    def _rate(self, age: int) -> float:  # noqa: ARG002
        return self.lr

    @abstractmethod
    def _second_moment(self, second_N: Float64, squared_N: Float64) -> Float64:
        """Return v from the one before and Δ²."""


class _Forgetting(Adaptive):
    """What the two that forget old rounds have in common."""

    beta2: float = Field(0.99, ge=0, lt=1)
    """Decay β₂ of v: 1 − β₂ is the share of Δ² that v changes by in a round."""


class FedAdam(_Forgetting):
    """Adam as the outer optimiser."""

    summary = "Adam as the outer optimiser"

    bias_correction: bool = False
    """True to start v at 0, and to multiply η by √(1 − β₂ᵗ) / (1 − β₁ᵗ) in round t = 1, 2, … as Adam does (arXiv
    1412.6980)."""

    def _initial(self) -> float:
        return 0.0 if self.bias_correction else super()._initial()

    def _rate(self, age: int) -> float:
        if not self.bias_correction:
            return self.lr
        rounds = age + 1  # products, as a library's power may differ between machines
        decay1, decay2 = math.prod([self.beta1] * rounds), math.prod([self.beta2] * rounds)
        return self.lr * math.sqrt(1 - decay2) / (1 - decay1)

    def _second_moment(self, second_N: Float64, squared_N: Float64) -> Float64:
        return self.beta2 * second_N + (1 - self.beta2) * squared_N


class FedYogi(_Forgetting):
    """Yogi as the outer optimiser."""

    summary = "Yogi as the outer optimiser: Adam whose v changes by steps that do not depend on v"

    lr: float = Field(0.01, gt=0)
    """Step size η: the length of an element's step."""

    def _second_moment(self, second_N: Float64, squared_N: Float64) -> Float64:
        return second_N - (1 - self.beta2) * squared_N * np.sign(second_N - squared_N)


class FedAdagrad(Adaptive):
    """Adagrad as the outer optimiser."""

    summary = "Adagrad as the outer optimiser: steps shrink with all that was learnt"

    beta1: float = Field(0.0, ge=0, lt=1)
    """Decay β₁: the share of the mean delta m that is left after a round; the paper takes none for this method."""

    def _second_moment(self, second_N: Float64, squared_N: Float64) -> Float64:
        return second_N + squared_N
