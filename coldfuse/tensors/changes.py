"""What a delta says of one tensor: all its elements, two factors, or some elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DenseChange:
    """A change of any element."""

    read: Callable[[int, int], NDArray[np.float64]]
    """read(first, count): return δ of some elements, in their order."""


@dataclass(frozen=True, kw_only=True)
class LowRankChange:
    """A product of two factors: δ = scale · up @ down on the tensor's matrix of outputs × inputs."""

    up: NDArray[np.floating]
    down: NDArray[np.floating]
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SparseChange:
    """A change of some elements."""

    indices: NDArray[np.int64]
    """Their places, ascending."""
    values: NDArray[np.floating]


Change = DenseChange | LowRankChange | SparseChange
