"""Min-Max and Min-Sum: as far from the benign mean as the benign deltas' own distances hide.

    δ = μ − γ p,   p = μ / ‖μ‖                                     μ: mean of the benign deltas
    min-max   largest γ with  max_i ‖δ − δ_i‖  ≤ max_ij ‖δ_i − δ_j‖
    min-sum   largest γ with  Σ_i ‖δ − δ_i‖²   ≤ max_i Σ_j ‖δ_i − δ_j‖²

Shejwalkar and Houmansadr, NDSS 2021, section 4; p is FLPoison's `unit_vec`. With r_i = δ_i − μ the distances are
‖δ − δ_i‖² = γ² + 2 γ p·r_i + ‖r_i‖², so γ follows from a quadratic equation; FLPoison bisects from 10 to 1e-5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coldfuse.simulation.attacks.attack import Knowledge, Rows

_BLOCK = 1 << 20
_Float64 = NDArray[np.float64]


def min_max(known: Knowledge) -> Rows:
    """Return the delta that is no further from any benign one than the two furthest are from each other."""
    along_C, squared_C, squared_CC = _geometry(known.benign_CN)
    largest = squared_CC.max()
    gamma_C = -along_C + np.sqrt(np.maximum(along_C**2 + largest - squared_C, 0.0))
    return _step_back(known, max(float(gamma_C.min()), 0.0))


def min_sum(known: Knowledge) -> Rows:
    """Return the delta whose squared distances add up to no more than those of the most remote benign one."""
    _, squared_C, squared_CC = _geometry(known.benign_CN)
    spare = squared_CC.sum(axis=1).max() - squared_C.sum()  # Σ_i p·r_i is 0
    return _step_back(known, float(np.sqrt(max(spare, 0.0) / len(squared_C))))


def _geometry(benign_CN: Rows) -> tuple[_Float64, _Float64, _Float64]:
    """Return p·r_i, ‖r_i‖² and ‖δ_i − δ_j‖², all from the Gram matrix."""
    gram_CC = np.zeros((len(benign_CN),) * 2)
    for first in range(0, benign_CN.shape[1], _BLOCK):
        block_CN = benign_CN[:, first : first + _BLOCK].astype(np.float64)
        gram_CC += block_CN @ block_CN.T
    with_mean_C, mean_squared = gram_CC.mean(axis=1), float(gram_CC.mean())
    squared_C = np.maximum(np.diag(gram_CC) - 2 * with_mean_C + mean_squared, 0.0)
    along_C = (with_mean_C - mean_squared) / np.sqrt(max(mean_squared, 1e-60))
    norms_C = np.diag(gram_CC)
    return along_C, squared_C, np.maximum(norms_C[:, None] + norms_C[None, :] - 2 * gram_CC, 0.0)


def _step_back(known: Knowledge, gamma: float) -> Rows:
    mean_N = known.benign_CN.mean(axis=0, dtype=np.float64)
    length = max(float(np.linalg.norm(mean_N)), 1e-30)
    return known.all_send(mean_N * (1 - gamma / length))
