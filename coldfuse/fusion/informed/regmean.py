"""RegMean: the linear layer whose outputs are nearest to those of every contributor's layer on its own inputs.

    min over W of Σ_i w_i ‖X_i (W − W_i)^T‖²  ⇔  W Σ_i w_i Ĝ_i = Σ_i w_i W_i Ĝ_i        arXiv 2212.09849, equation 2

G_i = X_i^T X_i / (number of tokens) comes with the contribution; Ĝ_i is G_i with all entries off the diagonal times a
(section 3.3). With W_i = θ_t + δ_i the base cancels, and the same holds for the deltas: one linear system a layer,
however many contributions. What is not a linear layer, where no contribution has a Gram matrix, gets the weighted
mean. A contribution without one, where others have some, counts as one whose inputs are like theirs on average.

a = 0.1 is what 9 of the 11 published configurations that set it use (RoBERTa, T5, DeBERTa), 0.9 another; GLUE on
RoBERTa and DistilBERT uses 1. With a < 1 the system is solvable whatever the inputs. With a = 1 and fewer tokens than
inputs it is not: that is refused, or settled by a ridge (not published), which pulls towards the mean by each input's
own second moment. An input that is 0 on everybody's data gets the mean.

Published: w_i = 1. With a = 1, and numbers of tokens as weights, least-squares solutions fuse to the solution of all
data pooled.

A Gram matrix is as large as I / O matrices of the layer; five or so are held at a time.

Letters: O outputs, I inputs of the layer.
"""

from __future__ import annotations

from typing import ClassVar

import array_api_compat
import numpy as np
from pydantic import Field

from coldfuse.errors import FusionError
from coldfuse.fusion.average.mean import WeightedMean, average, require_none_negative
from coldfuse.fusion.block import Array, Block, Float64, Matrix
from coldfuse.fusion.method import MatrixCombiner


class RegMean(MatrixCombiner):
    """A least-squares fusion of linear layers."""

    summary = "linear layers by least squares on every contributor's inputs, from their Gram matrices; else the mean"
    source = "arXiv 2212.09849"
    statistic = "gram"
    is_weighted: ClassVar[bool] = True
    num_matrices = 6
    num_squares = 5

    off_diagonal: float = Field(default=0.1, ge=0, le=1)
    """Factor a of Gram matrices off their diagonal."""
    ridge: float = Field(default=0.0, ge=0)
    """Strength of a pull towards the mean, relative to each input's second moment."""

    def fuse(self, block: Block) -> Float64:
        """Return Σ_i w_i δ_i / Σ_i w_i."""
        return WeightedMean().fuse(block)

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Solve δ Σ_i w_i Ĝ_i = Σ_i w_i δ_i Ĝ_i."""
        mean_OI, right_OI, gram_II = self._sums(matrix)
        return mean_OI if gram_II is None else self._solve(gram_II, right_OI, mean_OI, matrix.info.tensor)

    def _sums(self, matrix: Matrix) -> tuple[Array, Array, Array | None]:
        """Return the weighted sums of δ_i, δ_i Ĝ_i and G_i, for weights that sum to 1."""
        require_none_negative(matrix.info.weights_C)
        combination = average(matrix.info.weights_C, matrix.info, "zero")
        used = [(i, float(weight) / combination.divisor) for i, weight in enumerate(combination.deltas_C) if weight]
        mean_OI, right_OI, gram_II, without_OI = 0.0, 0.0, 0.0, None
        known = 0.0
        for i, weight in used:
            delta_OI, part_II = matrix.read_delta(i) * weight, self._read_gram(matrix, i)
            mean_OI += delta_OI
            if part_II is None:
                without_OI = delta_OI if without_OI is None else without_OI + delta_OI
                continue
            known += weight
            right_OI += self._times_reduced(delta_OI, part_II)
            part_II *= weight
            gram_II += part_II
        if not known:
            return mean_OI, right_OI, None
        if without_OI is not None:
            gram_II /= known
            right_OI += self._times_reduced(without_OI, gram_II)  # the weights of all sum to 1
        return mean_OI, right_OI, gram_II

    def _read_gram(self, matrix: Matrix, i: int) -> Array | None:
        """Return G_i in float64, in an array of its own."""
        gram_II, size = matrix.read_statistic(i), matrix.info.shape[1]
        if gram_II is None:
            return None
        if tuple(gram_II.shape) != (size, size):
            raise FusionError(
                f"{matrix.info.tensor}: expected a Gram matrix of shape {(size, size)}, one row an input, "
                f"got {tuple(gram_II.shape)} from contribution {i}; compute the statistics for this base"
            )
        xp = array_api_compat.array_namespace(gram_II)
        return xp.astype(gram_II, xp.float64)

    def _times_reduced(self, delta_OI: Array, gram_II: Array) -> Array:
        """Return δ Ĝ."""
        xp, a = array_api_compat.array_namespace(gram_II), self.off_diagonal
        return a * (delta_OI @ gram_II) + (1 - a) * delta_OI * xp.linalg.diagonal(gram_II)

    def _solve(self, gram_II: Array, right_OI: Array, mean_OI: Array, tensor: str) -> Array:
        """Solve for a matrix with a diagonal of 1: inputs may differ by many orders of magnitude."""
        xp, a = array_api_compat.array_namespace(gram_II), self.off_diagonal
        moment_I = xp.linalg.diagonal(gram_II)
        pull_I = xp.where(moment_I == 0, 1.0, self.ridge * moment_I)
        scale_I = 1 / xp.sqrt(xp.abs(moment_I + pull_I))
        system_II = a * gram_II
        system_II += _eye(gram_II) * ((1 - a) * moment_I + pull_I)
        system_II *= scale_I
        system_II *= scale_I[:, None]
        _check_solvable(system_II, tensor)
        return xp.linalg.solve(system_II, ((right_OI + pull_I * mean_OI) * scale_I).T).T * scale_I


def _check_solvable(system_II: Array, tensor: str) -> None:
    """Raise if an input is a combination of others, to rounding: what Cholesky's pivots tell."""
    xp = array_api_compat.array_namespace(system_II)
    try:
        pivot = float(xp.min(xp.linalg.diagonal(xp.linalg.cholesky(system_II)))) ** 2
    except (ValueError, RuntimeError):  # numpy's and torch's errors for a matrix that is not positive definite
        pivot = 0.0
    rounding = 100 * system_II.shape[0] * float(np.finfo(np.float64).eps)
    if not pivot > rounding:  # also refuses NaN
        raise FusionError(
            f"{tensor}: the sum of the Gram matrices is singular (pivot {pivot:.1e}, expected above {rounding:.1e}); "
            "set off_diagonal below 1, set ridge=1e-6 or more, or compute the statistics over more examples"
        )


def _eye(like_II: Array) -> Array:
    xp = array_api_compat.array_namespace(like_II)
    return xp.eye(like_II.shape[0], dtype=xp.float64, device=array_api_compat.device(like_II))
