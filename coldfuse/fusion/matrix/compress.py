"""Low rank: keep the strongest directions of a matrix, where rows may matter to different degrees.

    min over B, A of rank r:  ‖D (δ − B A)‖,  D = diag(√f)
    D δ = U diag(σ) V^T,   A = V_r^T,   B = D^-1 U_r diag(σ_r) = δ V_r            arXiv 2207.00112, section 4 (FWSVD)

f_o is the Fisher information of row o, summed; all alike, it is the plain truncated SVD. B = δ V_r also holds for f_o
= 0.

Letters: O and I the rows and columns, R the rank that is kept.
"""

from __future__ import annotations

import array_api_compat
from pydantic import Field

from coldfuse.fusion.block import Array, Matrix
from coldfuse.fusion.matrix.base import ScaledMeanElsewhere, total
from coldfuse.fusion.matrix.svd import thin_svd


def low_rank(delta_OI: Array, rank: int, row_weights_O: Array | None = None) -> tuple[Array, Array, float]:
    """Return B (O, R) and A (R, I), and the relative error ‖D (δ − B A)‖ / ‖D δ‖; R is less than `rank` if δ's rank is.

    >>> import numpy as np
    >>> low_rank(np.diag([4.0, 3.0]), 1)[2]
    0.6
    """
    xp = array_api_compat.array_namespace(delta_OI)
    weighted_OI = delta_OI if row_weights_O is None else delta_OI * xp.sqrt(row_weights_O)[:, None]
    _, S_R, Vt_RI = thin_svd(weighted_OI)
    A_RI = Vt_RI[:rank, :]
    whole = float(xp.linalg.vector_norm(S_R))
    return delta_OI @ A_RI.T, A_RI, float(xp.linalg.vector_norm(S_R[rank:])) / (whole or 1.0)


class LowRank(ScaledMeanElsewhere):
    """The mean's strongest directions."""

    summary = "the mean's leading singular directions, for small releases and against noise"
    source = "truncated SVD (Eckart and Young, 1936) of the mean"
    num_matrices = 6

    rank: int = Field(default=16, ge=1)
    """Number of directions that are kept."""

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Return α B A of the mean."""
        B_OR, A_RI, _ = low_rank(total(matrix) / matrix.info.num_contributions, self.rank)
        return self.scale * B_OR @ A_RI
