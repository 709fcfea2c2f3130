"""ColD Fusion's own rule: the mean of what was contributed.

    δ = Σ_i w_i δ_i / Σ_i w_i      w_i = 1: arXiv 2212.01378, section 3; w_i = examples: arXiv 1602.05629, algorithm 1

A contribution that did not change a tensor counts in the divisor: it says that the tensor should stay. Letters: N
elements.
"""

from __future__ import annotations

import numpy as np

from coldfuse.errors import FusionError
from coldfuse.fusion.block import Block, Float64


def mean(block: Block) -> Float64:
    """Fuse by δ = Σ_i w_i δ_i / Σ_i w_i, summed in float64."""
    total = sum(block.weights)
    if not 0 < total < float("inf"):  # also refuses NaN
        raise FusionError(f"weights sum to {total}, expected a finite number above 0")
    sum_N = np.zeros(block.num_elements)
    for weight, delta_N in zip(block.weights, block.deltas, strict=True):
        if delta_N is not None:
            sum_N += delta_N if weight == 1 else delta_N * weight
    sum_N /= total
    return sum_N
