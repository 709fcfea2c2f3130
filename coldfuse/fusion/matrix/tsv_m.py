"""TSV-Merging: keep each contribution's strongest directions, and turn them apart so that they do not interfere.

    U_i, Σ_i, V_i = the k leading singular triplets of δ_i,   k = ⌊min(O, I) / C⌋, at least 1
    δ = α orth([U_1 … U_C]) diag(Σ_1 … Σ_C) orth([V_1 … V_C])^T       arXiv 2412.00081, algorithm 1

orth(X) is the nearest matrix with orthonormal columns (orthogonal Procrustes). Of directions that several
contributions share exactly, that is one, not several with an arbitrary one beside it. With more contributions than
min(O, I) the published code keeps nothing; here each still has its strongest direction.
"""

from __future__ import annotations

import array_api_compat

from coldfuse.fusion.block import Array, Matrix
from coldfuse.fusion.matrix.base import ScaledMeanElsewhere, deltas
from coldfuse.fusion.matrix.svd import leading, nearest_orthogonal


class TSVM(ScaledMeanElsewhere):
    """Every contribution's strongest singular directions, made orthogonal."""

    summary = "each contribution's leading singular directions, orthogonalised and summed (task singular vectors)"
    source = "arXiv 2412.00081, TSV-M"
    num_matrices = 10

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Return α orth(U) Σ orth(V)^T."""
        kept = max(min(matrix.info.shape) // matrix.info.num_contributions, 1)
        lefts, values, rights = zip(*(leading(delta_OI, kept) for delta_OI in deltas(matrix)), strict=True)
        xp = array_api_compat.array_namespace(*values)
        left_OR = nearest_orthogonal(xp.concat(lefts, axis=1))
        right_RI = nearest_orthogonal(xp.concat(rights, axis=0))
        return self.scale * (left_OR * xp.concat(values)) @ right_RI
