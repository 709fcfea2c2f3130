"""Iso-C: flatten the spectrum of the summed deltas, so that no contribution's strong directions drown another's.

    Δ = Σ_i δ_i = U diag(σ) V^T,   δ = α σ̄ U V^T,   σ̄ = Σ_r σ_r / R      arXiv 2502.04959, section 4.1

R is the rank of Δ. The published code takes R = min(O, I), and gives directions with σ_r = 0, which are arbitrary, the
same σ̄: the same thing for a Δ of full rank, as sums of fully fine-tuned deltas are. A delta of low rank that was
rounded (LoRA's, stored in 16 bits) is of full rank too, and its rounding is lifted to σ̄ like everything else: prefer
another method for those.
"""

from __future__ import annotations

import array_api_compat

from coldfuse.fusion.block import Array, Matrix
from coldfuse.fusion.matrix.base import ScaledMeanElsewhere, total
from coldfuse.fusion.matrix.svd import thin_svd


class IsoC(ScaledMeanElsewhere):
    """The sum's directions, all with the mean singular value."""

    summary = "the summed deltas with all singular values made equal (isotropic merging in common subspace)"
    source = "arXiv 2502.04959, Iso-C"
    num_matrices = 6

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Return α σ̄ U V^T."""
        U_OR, S_R, Vt_RI = thin_svd(total(matrix))
        return self.scale * (U_OR * mean(S_R)) @ Vt_RI


def mean(values_R: Array) -> Array:
    """Return the mean; that of no values does not matter, as there is nothing to be multiplied by it."""
    xp = array_api_compat.array_namespace(values_R)
    return xp.sum(values_R) / max(values_R.shape[0], 1)
