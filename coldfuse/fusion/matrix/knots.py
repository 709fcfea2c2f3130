"""KnOTS: turn all deltas into one basis first, so that entries that are merged mean the same thing.

    [δ_1 … δ_C] = U diag(σ) [V_1 … V_C]^T,   δ = U merge(diag(σ) V_1^T, …, diag(σ) V_C^T)    arXiv 2410.19735, section 4

Since diag(σ) V_i^T = U^T δ_i, the basis U is all that is needed: the eigenvectors of Σ_i δ_i δ_i^T with eigenvalues
σ². Those with σ > eps are kept; eps is relative to the largest σ here (published: absolute, 1e-4 or 1e-5), so that
small deltas fuse as large ones do. The mean of the turned deltas is the turned mean, so the method differs from the
mean by TIES (published density: 0.2), whose threshold and majority sign are those of one tensor here, of the whole
model in the paper.

U spans the rows' side, as published, when O <= I, which holds for all layers of the paper (q, k, v and o). For taller
matrices the deltas are joined along the rows instead (the code's `concat_across_output = False`): U would otherwise be
as large as all deltas together.

Letters: O and I the rows and columns, S and L the shorter and the longer side, K kept directions.
"""

from __future__ import annotations

from typing import Literal

import array_api_compat
from pydantic import Field

from coldfuse.fusion.block import Array, Matrix
from coldfuse.fusion.matrix.base import ScaledMeanElsewhere, deltas, total


class Knots(ScaledMeanElsewhere):
    """Merges deltas in a basis that they share."""

    summary = "TIES (or the mean) in a singular basis that all deltas share"
    source = "arXiv 2410.19735, KnOTS"
    num_matrices = 14

    merge: Literal["ties", "mean"] = "ties"
    """Method that merges entries in the shared basis."""
    density: float = Field(default=0.2, gt=0, le=1)
    """Fraction of each contribution's entries that TIES keeps, in the shared basis."""
    eps: float = Field(default=1e-4, ge=0, lt=1)
    """Largest singular value, as a share of the largest of all, whose direction is dropped."""

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Return α U merge(U^T δ_1, …, U^T δ_C)."""
        is_tall = matrix.info.shape[0] > matrix.info.shape[1]
        basis_SK = self._basis(matrix, is_tall)
        if self.merge == "mean":
            merged_KL = basis_SK.T @ _lay(total(matrix), is_tall) / matrix.info.num_contributions
        else:
            merged_KL = self._ties(matrix, basis_SK, is_tall)
        return _lay(self.scale * basis_SK @ merged_KL, is_tall)

    def _basis(self, matrix: Matrix, is_tall: bool) -> Array:
        gram_SS = sum(_lay(delta, is_tall) @ _lay(delta, is_tall).T for delta in deltas(matrix))
        xp = array_api_compat.array_namespace(gram_SS)
        values_S, vectors_SS = xp.linalg.eigh(gram_SS)
        kept = int(xp.sum(xp.astype(values_S > values_S[-1] * self.eps**2, xp.int64)))
        basis_SK = vectors_SS[:, values_S.shape[0] - kept :]
        return basis_SK * xp.where(xp.sum(basis_SK, axis=0) < 0, -1.0, 1.0)  # signs that do not depend on the library

    def _ties(self, matrix: Matrix, basis_SK: Array, is_tall: bool) -> Array:
        """Keep the largest entries of each contribution; take the mean of those that have the sign of their sum."""
        xp = array_api_compat.array_namespace(basis_SK)
        sums, counts = [0.0, 0.0], [0.0, 0.0]  # of negative and positive entries
        for delta_OI in deltas(matrix):
            part_KL = _trim(basis_SK.T @ _lay(delta_OI, is_tall), self.density)
            for sign, chosen_KL in enumerate((part_KL < 0, part_KL > 0)):
                sums[sign] += xp.where(chosen_KL, part_KL, 0.0)
                counts[sign] += xp.astype(chosen_KL, part_KL.dtype)
        sign_KL = xp.sign(sums[0] + sums[1])
        sign_KL = xp.where(sign_KL == 0, xp.sign(xp.sum(sign_KL)), sign_KL)
        total_KL = xp.where(sign_KL > 0, sums[1], sums[0])
        count_KL = xp.where(sign_KL > 0, counts[1], counts[0])
        return total_KL / xp.where(count_KL > 0, count_KL, 1.0)


def _trim(part_KL: Array, density: float) -> Array:
    """Set to zero what is smaller than the (n − ⌊density n⌋)-th smallest of all n entries."""
    xp = array_api_compat.array_namespace(part_KL)
    sizes_N = xp.sort(xp.reshape(xp.abs(part_KL), (-1,)))
    dropped = sizes_N.shape[0] - int(sizes_N.shape[0] * density)
    return part_KL if dropped < 1 else xp.where(xp.abs(part_KL) >= sizes_N[dropped - 1], part_KL, 0.0)


def _lay(matrix: Array, is_tall: bool) -> Array:
    """Turn a tall matrix on its side, or back."""
    return matrix.T if is_tall else matrix
