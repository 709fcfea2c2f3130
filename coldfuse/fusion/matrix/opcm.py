"""OPCM: fuse one contribution after the other, each without what lies in the directions that are taken already.

    S ← δ_1;  then for i = 2 … C:  S ← S + P(δ_i),  S = U diag(σ) V^T              arXiv 2501.09522, section 4
    P(δ) = U (M ∘ U^T δ V) V^T,  M = 0 on the diagonal and where both directions are among the k leading, else 1
    δ = S · mean_i ‖δ_i‖ / ‖S‖

k counts the leading σ that sum up to at most α of all. What is not a matrix is summed without P, and scaled alike. By
design the first contribution counts most: the order is that of the digests, which is arbitrary but the same
everywhere.

The norms are those of one tensor here, so that a tensor can be fused by itself; in the published code, of the whole
model. Directions with σ = 0 are not taken: the published code clears their diagonal, too, which is up to rounding.

Letters: O and I the rows and columns, R the rank of S.
"""

from __future__ import annotations

import array_api_compat
import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Array, Block, Float64, Matrix
from coldfuse.fusion.matrix.svd import thin_svd
from coldfuse.fusion.method import MatrixCombiner, Measure, Sums
from coldfuse.fusion.products import inner_products


class OPCM(MatrixCombiner):
    """A running sum into which each delta is projected."""

    summary = "one contribution after the other, each projected away from those before it (in order of digests)"
    source = "arXiv 2501.09522, OPCM"
    num_matrices = 10

    alpha: float = Field(default=0.5, ge=0, lt=1)
    """Fraction α of the singular values' sum whose directions later contributions may not touch."""

    def measures(self) -> tuple[Measure, ...]:
        """Ask for ‖δ_i‖² and ‖Σ_i δ_i‖²."""
        return (Sums(name="opcm_squares", of=_squares, per="tensor"),)

    def fuse(self, block: Block) -> Float64:
        """Return Σ_i δ_i, scaled to the mean of the norms."""
        *norms, norm = np.sqrt(block.info.measured["opcm_squares"])
        return _sum(block.deltas_CN) * float(sum(norms) / len(norms) / norm if norm else 0.0)

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Return S, scaled to the mean of the norms."""
        sum_OI = matrix.read_delta(0)
        xp = array_api_compat.array_namespace(sum_OI)
        norms = [float(xp.linalg.matrix_norm(sum_OI))]
        for i in range(1, matrix.info.num_contributions):
            delta_OI = matrix.read_delta(i)
            norms.append(float(xp.linalg.matrix_norm(delta_OI)))
            sum_OI += self._project(delta_OI, sum_OI)
        norm = float(xp.linalg.matrix_norm(sum_OI))
        return sum_OI * (sum(norms) / len(norms) / norm if norm else 0.0)

    def _project(self, delta_OI: Array, sum_OI: Array) -> Array:
        """Return P(δ): δ less its diagonal and its k × k leading part in the sum's directions."""
        xp = array_api_compat.array_namespace(sum_OI)
        U_OR, S_R, Vt_RI = thin_svd(sum_OI)
        inside_RR = U_OR.T @ delta_OI @ Vt_RI.T
        share_R = xp.cumulative_sum(S_R) / xp.sum(S_R)
        leading_R = share_R <= self.alpha
        index_R = xp.arange(S_R.shape[0], device=array_api_compat.device(S_R))
        taken_RR = (leading_R[:, None] & leading_R[None, :]) | (index_R[:, None] == index_R[None, :])
        return delta_OI - U_OR @ xp.where(taken_RR, inside_RR, 0.0) @ Vt_RI


def _squares(block: Block) -> Float64:
    return np.array([inner_products(row_N[None])[0, 0] for row_N in (*block.deltas_CN, _sum(block.deltas_CN))])


def _sum(deltas_CN: Float64) -> Float64:
    total_N: Float64 = deltas_CN[0].copy()
    for delta_N in deltas_CN[1:]:
        total_N += delta_N
    return total_N
