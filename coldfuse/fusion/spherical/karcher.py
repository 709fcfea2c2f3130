"""Karcher mean: the point of a sphere from which all models lie, on average, in no direction.

    repeat   v ← Σ_i w_i log_m(u_i),   log_m(u) = ω / sin ω · (u − cos ω m),   cos ω = ⟨u, m⟩
             m ← exp_m(v) = cos ‖v‖ m + sin ‖v‖ v / ‖v‖                        until ‖v‖ < tolerance
    θ = Σ_i w_i ‖θ_i‖ · m,   u_i = θ_i / ‖θ_i‖,   Σ_i w_i = 1, tensor by tensor

Karcher 1977, doi 10.1002/cpa.3160300502; as mergekit's `karcher` merges models, from m = Σ w_i u_i / ‖…‖. Every m is a
combination of the u_i, so that all steps are taken in their inner products. A model opposite to m lies in no direction
and is passed over. mergekit takes tensors with a length under 1e-5 for zero; here only zero is.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from coldfuse.fusion.average.mean import average
from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.measures import gram, gram_with_base
from coldfuse.fusion.method import LinearCombination, LinearCombiner, Measure
from coldfuse.fusion.spherical.angles import angle, cosine, sine
from coldfuse.fusion.spherical.sphere import combined_length, deltas_on_sphere, models_on_sphere, shares


class Karcher(LinearCombiner):
    """Take the centre of the models on a sphere, with their mean length."""

    summary = "the models' centre on a sphere, with their mean length"
    source = "Karcher 1977, doi 10.1002/cpa.3160300502"
    is_weighted: ClassVar[bool] = True

    sphere: Literal["models", "deltas"] = "models"
    """Points on the sphere: the models, about zero, as in mergekit; or the deltas, about the base."""
    max_iterations: int = Field(default=10, ge=0)
    """Maximum number of steps."""
    tolerance: float = Field(default=1e-5, gt=0)
    """Length of a step, in radians, below which no further one is taken."""

    def measures(self) -> tuple[Measure, ...]:
        """Inner products, by tensor."""
        return (gram_with_base("tensor") if self.sphere == "models" else gram("tensor"),)

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return what m is a combination of, times the mean length."""
        models = models_on_sphere(info) if self.sphere == "models" else deltas_on_sphere(info)
        if models.are_equal:
            return average(info.weights_C, info, "zero")
        weights_C = shares(info)
        centre_C = self._centre(models.cosines_CC, np.where(models.lengths_C > 0, weights_C, 0.0))
        length = float(sum(weights_C * models.lengths_C))
        models_C = np.divide(length * centre_C, models.lengths_C, out=np.zeros_like(centre_C), where=centre_C != 0)
        return LinearCombination(deltas_C=models_C, base=float(sum(models_C)) - 1 if self.sphere == "models" else 0.0)

    def _centre(self, cosines_CC: Float64, weights_C: Float64) -> Float64:
        """Return m in terms of the u_i; zeros if all are zero."""
        centre_C = weights_C.copy()
        if weights_C.any():
            _walk(cosines_CC, weights_C / sum(weights_C), self.max_iterations, self.tolerance, centre_C)
        return centre_C


@compiled
def _walk(cosines: Any, weights: Any, max_iterations: Any, tolerance: Any, m: Any) -> None:
    m[:] = weights
    if combined_length(cosines, m) < tolerance:  # the models cancel: start from the first
        m[:] = 0.0
        m[np.argmax(weights != 0)] = 1.0
    m /= combined_length(cosines, m)
    v = np.empty_like(m)
    for _ in range(max_iterations):
        _mean_logarithm(cosines, weights, tolerance, m, v)
        length = combined_length(cosines, v)
        if length < tolerance:
            return
        m[:] = cosine(length) * m + sine(length) / length * v
        m /= combined_length(cosines, m)


@compiled
def _mean_logarithm(cosines: Any, weights: Any, tolerance: Any, m: Any, v: Any) -> None:
    """Set v = Σ_i w_i ω_i / sin ω_i · (u_i − cos ω_i m)."""
    v[:] = 0.0
    for i in range(weights.size):
        dot = 0.0
        for j in range(m.size):
            dot += cosines[i, j] * m[j]
        omega = angle(min(1.0, max(-1.0, dot)))
        if weights[i] != 0.0 and tolerance <= omega <= math.pi - tolerance:
            factor = weights[i] * omega / sine(omega)
            v -= factor * dot * m
            v[i] += factor
