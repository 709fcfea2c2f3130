"""Where models lie on a sphere, from their inner products alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from coldfuse.errors import FusionError
from coldfuse.fusion.average.mean import average, require_none_negative
from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import LinearCombination

_UNRESOLVED = 1e-16
"""‖δ‖² / ‖θ_t‖² below which the models' inner products hold nothing of the deltas but rounding."""


@dataclass(frozen=True, kw_only=True)
class Sphere:
    """Lengths of C vectors, and the cosines between them. A vector of zeros has the cosine 0 to every other."""

    lengths_C: Float64
    cosines_CC: Float64
    are_equal: bool
    """All are the same vector, as far as inner products tell: any mean of them is the weighted one."""


def deltas_on_sphere(info: TensorInfo) -> Sphere:
    """Look at the directions of the deltas; needs the measure `gram`."""
    gram = info.measured["gram"]
    return _sphere(gram, info, _are_equal(gram))


def models_on_sphere(info: TensorInfo) -> Sphere:
    """Look at the directions of the fine-tuned models θ_t + δ_i; needs the measure `gram_with_base`."""
    gram = info.measured["gram_with_base"]
    base, deltas_CC = gram[0, 0], gram[1:, 1:]
    models_CC = base + gram[0, 1:, None] + gram[None, 0, 1:] + deltas_CC
    are_equal = _are_equal(deltas_CC) or bool((np.diag(deltas_CC) < _UNRESOLVED * base).all())
    return _sphere(models_CC, info, are_equal)


def straight_between_two(info: TensorInfo, name: str) -> LinearCombination:
    """Return the straight line between two models, by their weights. Raises `FusionError` for another number."""
    if info.num_contributions != 2:
        raise FusionError(
            f"{name} joins 2 models, got {info.num_contributions}; for others use multi-slerp, karcher or mean"
        )
    return average(info.weights_C, info, "zero")


def shares(info: TensorInfo) -> Float64:
    """Return w_i / Σ w. Raises `FusionError` for weights under 0."""
    require_none_negative(info.weights_C)
    combination = average(info.weights_C, info, "zero")
    return combination.deltas_C / combination.divisor


@compiled
def combined_length(cosines: Any, parts: Any) -> Any:
    """Return ‖Σ_i p_i u_i‖ of unit vectors u_i with these cosines, of shape (C, C)."""
    squared = 0.0
    for i in range(parts.size):
        for j in range(parts.size):
            squared += parts[i] * parts[j] * cosines[i, j]
    return math.sqrt(max(0.0, squared))


def _sphere(gram_CC: Float64, info: TensorInfo, are_equal: bool) -> Sphere:
    if not np.isfinite(gram_CC).all():
        raise FusionError(f"{info.tensor}: its numbers are too large for inner products in float64")
    lengths_C = np.sqrt(np.maximum(np.diag(gram_CC), 0.0))
    products_CC = np.outer(lengths_C, lengths_C)
    cosines_CC = np.divide(gram_CC, products_CC, out=np.zeros_like(gram_CC), where=products_CC > 0)
    return Sphere(lengths_C=lengths_C, cosines_CC=np.clip(cosines_CC, -1.0, 1.0), are_equal=are_equal)


def _are_equal(gram_CC: Float64) -> bool:
    """Say whether all vectors are the same: inner products of equal vectors are equal bit by bit."""
    return bool((gram_CC == gram_CC[0, 0]).all())
