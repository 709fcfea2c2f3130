"""WUDI: the delta that interferes least with every contribution's own, without any data.

    δ = argmin_τ Σ_i ‖(τ − δ_i) δ_i^T‖² / ‖δ_i‖²        arXiv 2503.08099, equation 8

The rows of δ_i stand for the layer's inputs: RegMean with the Gram matrix δ_i^T δ_i / ‖δ_i‖². A contribution that did
not change a tensor has nothing to say there. The gradient is 2 (τ A − B), so that one pass over the contributions is
enough:

    A = Σ_i δ_i^T δ_i / ‖δ_i‖² (I × I),   B = Σ_i δ_i δ_i^T δ_i / ‖δ_i‖² (O × I)

`wudi` sets it to zero. Inputs that no delta spans (eigenvalues 0 of A) are free, and stay unchanged: this is where
gradient descent from Σ_i δ_i ends, too. Weakly spanned ones follow few deltas' small entries and may be fused to large
values; a ridge ρ pulls them to where the published descent starts, τ (A + ρ I) = B + ρ Σ_i δ_i.

`wudi-adam` is what the paper publishes numbers for: 300 steps of Adam, stopped far from that minimum. Its step size is
absolute: deltas that are much smaller or larger than usual, 1e-5 to 1e-2, are not moved by it, or only moved by it.

A is as large as I / O matrices: mind transposed embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import array_api_compat
from pydantic import Field

from coldfuse.fusion.block import Array, Matrix
from coldfuse.fusion.matrix.base import MeanElsewhere, deltas
from coldfuse.fusion.matrix.svd import solve_from_right


class Wudi(MeanElsewhere):
    """The minimum of WUDI's loss."""

    summary = "least interference with each contribution, in closed form (WUDI)"
    source = "arXiv 2503.08099, equation 8, its minimum"
    num_matrices = 6
    num_squares = 4

    ridge: float = Field(default=0.0, ge=0)
    """Ridge ρ, relative to the mean eigenvalue of A: pulls what the deltas hardly determine towards their sum. Give
    0.01 or more where a few deltas only just span a layer's inputs: the published equation, which has none, blows up
    there."""

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Solve τ (A + ρ I) = B + ρ Σ_i δ_i."""
        loss = _read(matrix)
        A_II, B_OI = loss.A_II, loss.B_OI
        if self.ridge:
            xp = array_api_compat.array_namespace(A_II)
            size = A_II.shape[0]
            rho = self.ridge * float(xp.linalg.trace(A_II)) / size
            A_II = A_II + rho * xp.eye(size, dtype=A_II.dtype, device=array_api_compat.device(A_II))
            B_OI = B_OI + rho * loss.sum_OI
        return solve_from_right(B_OI, A_II)


class WudiAdam(MeanElsewhere):
    """WUDI's loss, descended for some steps from the sum of the deltas."""

    summary = "least interference with each contribution, by a few hundred steps of Adam as published (WUDI)"
    source = "arXiv 2503.08099, algorithm 1"
    num_matrices = 8
    num_squares = 4

    steps: int = Field(default=300, ge=0, le=100_000)
    """Number of Adam's steps."""
    lr: float = Field(default=1e-5, gt=0)
    """Step size of Adam."""

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Descend from Σ_i δ_i; β = (0.9, 0.999) and ε = 1e-8 are Adam's."""
        loss = _read(matrix)
        xp = array_api_compat.array_namespace(loss.A_II)
        delta_OI, mean_OI, square_OI = loss.sum_OI, xp.zeros_like(loss.sum_OI), xp.zeros_like(loss.sum_OI)
        for step in range(1, self.steps + 1):
            gradient_OI = 2 * (delta_OI @ loss.A_II - loss.B_OI)
            mean_OI += 0.1 * (gradient_OI - mean_OI)
            square_OI += 0.001 * (gradient_OI**2 - square_OI)
            spread_OI = xp.sqrt(square_OI / (1 - 0.999**step)) + 1e-8
            delta_OI -= self.lr / (1 - 0.9**step) * mean_OI / spread_OI
        return delta_OI


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """What the loss's gradient depends on."""

    A_II: Array
    B_OI: Array
    sum_OI: Array


def _read(matrix: Matrix) -> _Loss:
    A_II, B_OI, sum_OI = 0.0, 0.0, 0.0
    for delta_OI in deltas(matrix):
        xp = array_api_compat.array_namespace(delta_OI)
        unit_OI = delta_OI / (float(xp.linalg.matrix_norm(delta_OI)) or 1.0)
        gram_II = unit_OI.T @ unit_OI
        A_II += gram_II
        B_OI += delta_OI @ gram_II
        sum_OI += delta_OI
    return _Loss(A_II=A_II, B_OI=B_OI, sum_OI=sum_OI)
