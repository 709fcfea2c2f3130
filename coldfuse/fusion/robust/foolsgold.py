"""FoolsGold: contributions that point the same way count less, because one attacker may have sent them all.

    c_ij = cos(δ_i, δ_j), i ≠ j          m_i = max_j c_ij
    c_ij ← c_ij m_i / m_j where m_i < m_j      (pardoning: an honest one may resemble an attacker)
    α_i = 1 − max_j c_ij, then α ← α / max α, then α ← clip(ln(α / (1 − α)) + ½, 0, 1)
    δ = Σ_i α_i δ_i / Σ_i α_i

arXiv 1808.04866, algorithm 1, as in the authors' `foolsgold.py`; they add gradients up without dividing by Σ α, which
would multiply what fine-tuned models have learnt. The paper compares the sums of all a contributor ever sent; a recipe
remembers nothing, so here only the round's deltas are compared.

The method takes agreement for fraud. If all contributions are the same up to their length it would erase every one, and
raises `FusionError` instead. A weight is rounded to float32, so that no processor's last bit of a logarithm shows.
"""

from __future__ import annotations

import math

import numpy as np

from coldfuse.errors import FusionError
from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import LinearCombination, LinearCombiner, Measure

_ROUNDING = 1e-12
"""Cosines closer to 1 than this are 1; a Gram matrix in float64 cannot tell."""


class FoolsGold(LinearCombiner):
    """A mean in which contributions that point the same way count less."""

    summary = "contributions that point the same way count less, against one attacker under many names"
    source = "arXiv 1808.04866, algorithm 1"

    def measures(self) -> tuple[Measure, ...]:
        """The Gram matrix of the whole model."""
        return (gram("model"),)

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = α and d = Σ α."""
        cosine_CC = _cosines(info.measured["gram"])
        np.fill_diagonal(cosine_CC, 0.0)  # so m ≥ 0, as in the authors' code
        closest_C = cosine_CC.max(axis=1)
        own_C1, others_1C = closest_C[:, None], closest_C[None, :]
        cosine_CC *= np.divide(own_C1, others_1C, out=np.ones_like(cosine_CC), where=own_C1 < others_1C)
        alpha_C = 1 - cosine_CC.max(axis=1)
        alpha_C[alpha_C < _ROUNDING] = 0.0
        moved_C = np.diag(info.measured["gram"]) > 0
        if moved_C.any() and not alpha_C[moved_C].any():
            raise FusionError(
                f"all {moved_C.sum()} contributions that changed the model look like copies of one, and foolsgold "
                "trusts no copy; expected contributions that differ: use another method, such as geometric-median"
            )
        weight_C = np.array([_logit(alpha) for alpha in alpha_C / alpha_C.max()])
        return LinearCombination(deltas_C=weight_C, divisor=math.fsum(weight_C))


def _cosines(gram_CC: Float64) -> Float64:
    """Return the cosines; 0 for a delta of zero."""
    scaled_CC = gram_CC / (np.diag(gram_CC).max() or 1.0)  # so that no product below is too small for float64
    squares_C = np.diag(scaled_CC)
    products_CC = np.sqrt(squares_C[:, None] * squares_C[None, :])
    cosine_CC: Float64 = np.divide(scaled_CC, products_CC, out=np.zeros_like(products_CC), where=products_CC > 0)
    return cosine_CC


def _logit(alpha: float) -> float:
    if alpha == 0:
        return 0.0
    if alpha == 1:
        return 1.0  # the authors take 0.99, whose logit is above 1 as well
    return float(np.float32(min(1.0, max(0.0, math.log(alpha / (1 - alpha)) + 0.5))))
