"""What a fusion method is given: one block of elements of one tensor, and every contribution's delta of it.

Letters: C contributions, R some of them, N elements of the block, O and I the rows and columns of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

Rows = NDArray[np.intp]
"""Indices of some of the contributions, shape (R,)."""

Array = Any
"""An array of the array API standard: numpy's, or torch's on a GPU. See `array_api_compat.array_namespace`."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """What is known about one tensor before its elements are looked at."""

    tensor: str
    shape: tuple[int, ...]
    weights_C: Float64
    """Weights w_i, one a contribution, as given: not normalised."""
    present_C: NDArray[np.bool_]
    """True for contributions that carry this tensor; the deltas of the others are zero."""
    keys_C: NDArray[np.uint64]
    """Random keys for this round, contribution and tensor (see `coldfuse.fusion.random`); empty unless a method of the
    recipe `is_random`."""
    num_elements: int
    """Number of elements of all tensors that are fused."""
    informed_C: NDArray[np.bool_] | None = None
    """True for contributions whose statistics hold this tensor; None where no step asks for statistics."""
    own: Mapping[str, Float64] = field(default_factory=dict)
    """Values of the step's parameters in this tensor, by name, one a contribution, where they are not the step's own
    everywhere."""
    measured: Mapping[str, Float64] = field(default_factory=dict)
    """Results of the method's own measures, by name."""

    @property
    def num_contributions(self) -> int:
        """C."""
        return len(self.weights_C)

    def values(self, parameter: str, otherwise: float) -> Float64:
        """Return a parameter's value for each contribution, shape (C,); `otherwise` is the step's own."""
        return self.own[parameter] if parameter in self.own else np.full(self.num_contributions, otherwise)

    def value(self, parameter: str, otherwise: float) -> float:
        """Return a parameter's value that is one for all contributions; `otherwise` is the step's own."""
        return float(self.own[parameter][0]) if parameter in self.own else otherwise

    @property
    def row_elements(self) -> int:
        """Elements of a row: the last dimension's size, 1 for a 0-d tensor."""
        return self.shape[-1] if self.shape else 1


@dataclass(frozen=True, kw_only=True)
class Block:
    """N consecutive elements of one tensor."""

    info: TensorInfo
    first: int
    """Index of the block's first element in the flattened tensor."""
    base_N: Float64
    """Base θ_t; not to be changed."""
    deltas_CN: Float64
    """Deltas δ_i, one row a contribution, in the order of their digests. A method may overwrite them."""
    statistics_CN: Float64 | None = None
    """Statistics of each contribution for these elements (Fisher information, variance), if the method asked; 0 in the
    rows of those that are not `info.informed_C`. None where nobody's hold the tensor."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """One whole tensor of two dimensions. Deltas are read when they are asked for: hold few of them at a time."""

    info: TensorInfo
    read_delta: Callable[[int], Array]
    """Function of i that returns δ_i of shape (O, I) in float64, a fresh array."""
    read_statistic: Callable[[int], Array | None]
    """Function of i that returns what contribution i's statistics hold under this tensor's name (a Gram matrix, I × I;
    Fisher information, O × I), if anything."""
