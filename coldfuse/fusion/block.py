"""What a fusion method is given: one block of elements of one tensor, and every contribution's delta of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """N elements of one tensor, contributed to by C contributions."""

    num_elements: int
    weights: Sequence[float]
    """w_i, one a contribution, also for those that did not change this tensor."""
    deltas: Iterator[Float64 | None]
    """δ_i of shape (N,), to be consumed once and in order; the buffer is used again. None: unchanged, δ_i = 0."""
