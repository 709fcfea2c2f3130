"""Distances between contributions, and to points between them, all from one Gram matrix.

    ‖δ_i − δ_j‖² = G_ii + G_jj − 2 G_ij
    ‖Σ_j a_j δ_j − δ_i‖² = Σ_j a_j ‖δ_i − δ_j‖² − ½ Σ_jk a_j a_k ‖δ_j − δ_k‖²      where Σ_j a_j = 1

So an iteration over whole models costs C² operations, and gives exactly 0 among equal contributions. Distances of less
than about 1e-8 of the norms are lost in rounding. Sums are made in a fixed order: no BLAS.
"""

from __future__ import annotations

import math

import numpy as np

from coldfuse.fusion.block import Float64


def squared_distances(gram_CC: Float64) -> Float64:
    """Return ‖δ_i − δ_j‖², shape (C, C); what rounding makes negative is 0."""
    norms_C = np.diag(gram_CC)
    return np.maximum(norms_C[:, None] + norms_C[None, :] - 2 * gram_CC, 0.0)


def distances_to(shares_C: Float64, squared_CC: Float64) -> Float64:
    """Return the distance of every contribution from Σ_j a_j δ_j, for shares a that sum to 1."""
    mixed_C = (shares_C[:, None] * squared_CC).sum(axis=0)
    spread = math.fsum(shares_C * mixed_C) / 2
    distance_C: Float64 = np.sqrt(np.maximum(mixed_C - spread, 0.0))
    return distance_C
