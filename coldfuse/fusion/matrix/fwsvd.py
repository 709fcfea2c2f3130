"""FWSVD: the mean's strongest directions, where the data say which rows matter (arXiv 2207.00112, section 4).

    min over B, A of rank r:  ‖D (δ − B A)‖,   D = diag(√f),   f_o = Σ_i Σ_n F_i,on

δ is the mean; F_i is contribution i's Fisher information, summed over each row and over all contributions that have it.
The paper compresses a model's weights; here it is what fine-tuning changed, as for `low-rank`, which weighs all rows
alike. Without statistics of a matrix, or where all are 0, so does this.

Letters: O and I the rows and columns.
"""

from __future__ import annotations

from typing import ClassVar

import array_api_compat
from pydantic import Field

from coldfuse.fusion.block import Array, Matrix
from coldfuse.fusion.matrix.base import ScaledMeanElsewhere, total
from coldfuse.fusion.matrix.compress import low_rank
from coldfuse.fusion.method import Statistic


class FWSVD(ScaledMeanElsewhere):
    """The mean's strongest directions in the rows that matter."""

    summary = "the mean's leading directions, rows weighted by their Fisher information (FWSVD)"
    source = "arXiv 2207.00112, section 4"
    statistic: ClassVar[Statistic | None] = "fisher"
    num_matrices = 6

    rank: int = Field(default=16, ge=1)
    """Number of directions that are kept."""

    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Return α B A of the mean."""
        mean_OI = total(matrix) / matrix.info.num_contributions
        B_OR, A_RI, _ = low_rank(mean_OI, self.rank, _row_weights(matrix, mean_OI))
        return self.scale * B_OR @ A_RI


def _row_weights(matrix: Matrix, like_OI: Array) -> Array | None:
    """Return f relative to its largest, so that its unit does not matter; None if nothing is known."""
    xp = array_api_compat.array_namespace(like_OI)
    weights_O = xp.zeros_like(like_OI[:, 0])
    for index in range(matrix.info.num_contributions):
        if (fisher_OI := matrix.read_statistic(index)) is not None:
            weights_O = weights_O + xp.sum(fisher_OI, axis=1)
    largest = xp.max(weights_O)
    return weights_O / largest if largest > 0 else None
