"""Iso-CTS: Iso-C, with the weakest directions of the sum replaced by each contribution's own.

    U_k, σ_k, V_k = the k leading singular triplets of Σ_i δ_i          k = R − n C,  R = min(O, I)
    n leading triplets of (I − U_k U_k^T) δ_i, for every i              n = round((R − ⌊c R⌋) / C) ≤ R / C
    δ = α σ̄ orth([U_1 … U_C U_k]) orth([V_1 … V_C V_k])^T               arXiv 2502.04959, section 4.2, algorithm 2

orth(X) is the nearest matrix with orthonormal columns, σ̄ the mean of all the singular values that were taken.
"""

from __future__ import annotations

import array_api_compat
from pydantic import Field

from coldfuse.fusion.block import Array, Matrix
from coldfuse.fusion.matrix.base import ScaledMeanElsewhere, deltas, total
from coldfuse.fusion.matrix.iso_c import mean
from coldfuse.fusion.matrix.svd import leading, nearest_orthogonal


class IsoCTS(ScaledMeanElsewhere):
    """The common directions and some of each contribution's own, all with the mean singular value."""

    summary = "common and task-specific directions with all singular values made equal (isotropic merging)"
    source = "arXiv 2502.04959, Iso-CTS"
    num_matrices = 10

    common: float = Field(default=0.8, ge=0, le=1)
    """Fraction c of the directions that are taken from the sum of the deltas."""

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Return α σ̄ orth(U) orth(V)^T."""
        num_own, num_common = self._split(matrix)
        U_OK, S_K, Vt_KI = leading(total(matrix), num_common)
        own = deltas(matrix) if num_own else ()
        triplets = [_outside(delta_OI, U_OK, num_own) for delta_OI in own]
        lefts, values, rights = zip(*triplets, (U_OK, S_K, Vt_KI), strict=True)
        xp = array_api_compat.array_namespace(U_OK)
        left_OR = nearest_orthogonal(xp.concat(lefts, axis=1))
        right_RI = nearest_orthogonal(xp.concat(rights, axis=0))
        return self.scale * (left_OR * mean(xp.concat(values))) @ right_RI

    def _split(self, matrix: Matrix) -> tuple[int, int]:
        """Return how many directions each contribution gets, and how many are common."""
        count, rank = matrix.info.num_contributions, min(matrix.info.shape)
        num_own = min(round((rank - int(rank * self.common)) / count), rank // count)
        return num_own, rank - num_own * count


def _outside(delta_OI: Array, U_OK: Array, count: int) -> tuple[Array, Array, Array]:
    """Return the leading triplets of (I − U U^T) δ."""
    xp = array_api_compat.array_namespace(delta_OI)
    return leading(delta_OI - U_OK @ (U_OK.T @ delta_OI), count, size=float(xp.linalg.matrix_norm(delta_OI)))
