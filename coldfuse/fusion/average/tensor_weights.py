"""Coefficients of their own for each tensor, as a search found them.

    δ(tensor) = Σ_i c_i(tensor) δ_i

Learned soups (arXiv 2203.05482) and layer-wise AdaMerging (arXiv 2310.02575) end in such a table. It does not fit in a
recipe's line, so that the method has no name there: make it in Python.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coldfuse.errors import FusionError
from coldfuse.fusion.block import TensorInfo
from coldfuse.fusion.method import LinearCombination, LinearCombiner

OTHERS = "*"
"""Stands for all tensors that a table does not name."""


class TensorWeights(LinearCombiner):
    """A linear combination with coefficients for each tensor."""

    summary = "coefficients for each tensor, found by a search"
    source = "arXiv 2203.05482; arXiv 2310.02575"

    table: Mapping[str, tuple[float, ...]]
    """c by tensor, in the order of the contributions; `*` stands for all tensors that are not named."""

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return the tensor's c. Raises `FusionError` if the table has none, or another number of them."""
        coefficients = self.table.get(info.tensor, self.table.get(OTHERS))
        if coefficients is None:
            raise FusionError(f"{info.tensor}: the table has no coefficients; name the tensor or {OTHERS!r}")
        if len(coefficients) != info.num_contributions:
            raise FusionError(
                f"{info.tensor}: {len(coefficients)} coefficients for {info.num_contributions} contributions; "
                "give one for each, in their order"
            )
        return LinearCombination(deltas_C=np.array(coefficients))
