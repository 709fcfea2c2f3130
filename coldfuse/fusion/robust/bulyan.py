"""Bulyan: multi-Krum chooses contributions, then each element trusts the values around its median.

    S = the C − 2 f contributions with the smallest scores of Krum
    δ_n = mean of the C − 4 f values of {δ_in, i ∈ S} that are closest to their median

arXiv 1802.07927. The paper chooses one contribution at a time and scores the others anew; here, as in
Flower, multi-Krum chooses all of them at once. Of two values that are equally far from the median, the smaller stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import Combiner, Measure
from coldfuse.fusion.robust.krum import best, check_enough
from coldfuse.fusion.robust.sorting import sort_contributions


class Bulyan(Combiner):
    """The mean of what multi-Krum chose, around each element's median."""

    summary = "multi-Krum's choice, then each element's mean around its median"
    source = "arXiv 1802.07927"

    byzantine: int = Field(0, ge=0)
    """Number f of contributions that may be hostile; needs 4 f + 3 contributions."""

    def measures(self) -> tuple[Measure, ...]:
        """The Gram matrix of the whole model."""
        return (gram("model"),)

    def tolerates(self, num_contributions: int) -> int:
        """Return f, if they are enough: the paper proves it for 4 f + 3 and more."""
        return self.byzantine if num_contributions >= 4 * self.byzantine + 3 else 0

    def fuse(self, block: Block) -> Float64:
        """Return the mean around the median of what was chosen."""
        info, f = block.info, self.byzantine
        check_enough(info, f, 4 * f + 3)
        chosen = best(info.measured["gram"], f, info.num_contributions - 2 * f)
        sorted_SN = block.deltas_CN[chosen]
        sort_contributions(sorted_SN)
        fused_N = np.empty(sorted_SN.shape[1])
        _mean_around_median(sorted_SN, info.num_contributions - 4 * f, fused_N)
        return fused_N


@compiled
def _mean_around_median(values: Any, keep: int, out: Any) -> None:
    """Average the `keep` values closest to the median of each sorted column: they lie side by side."""
    count = values.shape[0]
    lower, upper = values[(count - 1) // 2], values[count // 2]
    skipped = np.zeros(out.size, np.int64)  # smaller values than those that stay
    for i in range(count - keep):
        left, right = values[i], values[i + keep]
        for n in range(out.size):
            median = (lower[n] + upper[n]) / 2
            skipped[n] += median - left[n] > right[n] - median
    out[:] = 0.0
    for i in range(count):
        row = values[i]
        for n in range(out.size):
            out[n] += row[n] if skipped[n] <= i < skipped[n] + keep else 0.0
    for n in range(out.size):
        out[n] /= keep
