"""What a fusion method is: its parameters, what it must measure first, and its formula.

A recipe is `transform, … then combiner then outer, …`: transforms change one contribution's delta at a time, the
combiner makes one delta of all of them, outers move the base along it. Each is a frozen value whose fields are the
method's parameters (name, default, bounds, and their meaning in the line under them), so the help text, the check of
what a user wrote and the record in a release come from one place. Methods hold no state and see no file: the engine
asks for `measures()` one after the other, makes a pass over all elements for each, and hands the results to the formula
in `TensorInfo.measured`.

The formulas must not care how the engine cuts a model: a block is any run of elements of one tensor (whole rows where
`whole_rows` says so, and the whole tensor for `fuse_matrix`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from coldfuse.fusion.block import Array, Block, Float64, Matrix, Rows, TensorInfo
from coldfuse.fusion.kernels import sum_rows
from coldfuse.fusion.rows import DeltaRows

Scope = Literal["model", "tensor"]
Varying = Mapping[str, frozenset[Literal["contribution", "tensor"]]]
"""What the values of parameters may differ between, by the parameters' names."""

BY_BOTH: frozenset[Literal["contribution", "tensor"]] = frozenset({"contribution", "tensor"})
BY_CONTRIBUTION: frozenset[Literal["contribution", "tensor"]] = frozenset({"contribution"})
BY_TENSOR: frozenset[Literal["contribution", "tensor"]] = frozenset({"tensor"})

Ranks = NDArray[np.int64]
"""Ranks of each row, shape (R, number of ranks)."""

Variant = Literal["paper", "mergekit"]
"""Whose computation is followed where the two differ: the paper's own code, or mergekit's."""

Statistic = Literal["fisher", "gram", "variance"]


@dataclass(frozen=True, kw_only=True)
class Sums:
    """A measure: numbers that are summed over all blocks of a tensor, or of the whole model."""

    name: str
    """Name under which `TensorInfo.measured` has the sum."""
    of: Callable[[Block], Float64]
    """Function that returns one block's part of the sum: an array whose shape depends on C alone."""
    per: Scope = "model"
    """What is summed over: the whole model, or each tensor."""
    reads_deltas: bool = True
    """False if `of` looks at the statistics only; it gets a block whose deltas hold junk."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A measure: the exact r-th smallest of all |values| of a tensor, or of the whole model, ranked as float32."""

    name: str
    """Name under which `TensorInfo.measured` has them, shape (R, number of ranks)."""
    of: Callable[[Block], Float64]
    """Function that returns the values to be ranked, shape (R, N): R rows that are ranked apart."""
    ranks: Callable[[int, Mapping[str, Float64]], Sequence[int] | Ranks]
    """Function that returns the wanted ranks, 0 for the smallest, for all rows or (as an array) for each row, given the
    number of elements that are ranked, and what is known of the same tensor or model: `TensorInfo.own`, and what the
    method's earlier measures found (nothing, while a fusion is only planned)."""
    per: Scope = "model"
    """What is ranked together: the whole model, or each tensor."""
    of_deltas: bool = False
    """True: `of` returns the deltas as they are, so that they are counted as they lie in their files."""
    rows: Callable[[int], int] = int
    """Function that returns R, given C: one row a contribution by default."""


Measure = Sums | Ranked


class Method(BaseModel, ABC):
    """A step of a recipe; its fields are its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    summary: ClassVar[str]
    """One line for help texts."""
    source: ClassVar[str]
    """The paper, or the implementation that defines it."""
    whole_rows: ClassVar[bool] = False
    """True if blocks must hold whole rows (runs along the last dimension)."""
    statistic: ClassVar[Statistic | None] = None
    """Statistics that every contribution must bring beside its delta."""
    is_random: ClassVar[bool] = False
    """True if the formula looks at `TensorInfo.keys_C`: only then contributions are hashed to make them."""

    def measures(self) -> tuple[Measure, ...]:
        """What has to be known before the formula; a later measure may use the results of earlier ones."""
        return ()

    def varying(self) -> Varying:
        """Which parameters the formula looks up in `TensorInfo.own`, so that their values may differ."""
        return {}


class Transform(Method):
    """Changes each contribution's delta by itself."""

    @abstractmethod
    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Change the deltas of R contributions in place, each by itself.

        Args:
            deltas_RN: the block's elements of their deltas.
            rows_R: which of the C contributions they are.
            block: where the elements lie; its own deltas are not to be used.
        """


class Combiner(Method):
    """Makes one delta of all contributions'."""

    is_weighted: ClassVar[bool] = False
    """True if the formula looks at `TensorInfo.weights_C`; if not, weights that a user gives are refused."""

    needs_weights: ClassVar[bool] = False
    """True if a user must give weights."""

    def weigh(self, num_examples: int, score: float | None) -> float:  # noqa: ARG002
        """Return w_i of a federation's contribution, from what its manifest says."""
        return 1.0

    def positional_weights(self, count: int) -> tuple[float, ...] | None:  # noqa: ARG002
        """Weights that follow from the order in which a user names the models, for methods where it matters."""
        return None

    def tolerates(self, num_contributions: int) -> int:  # noqa: ARG002
        """Return how many contributions of so many may be hostile without taking the result where they like.

        0 for what averages: one is enough there, as far as nobody bounds its length.
        """
        return 0

    @abstractmethod
    def fuse(self, block: Block) -> Float64:
        """Return the fused delta of a block, shape (N,)."""

    def fuse_rows(self, info: TensorInfo, rows: DeltaRows) -> tuple[Float64, bool] | None:  # noqa: ARG002
        """Do what `fuse` does with deltas as they lie in their files, the same bits, where that is faster.

        Returns:
            The fused delta, and False if some delta is not finite; None if the formula has no such loop.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class LinearCombination:
    """A linear combination: δ = (b θ_t + Σ_i c_i δ_i) / d."""

    deltas_C: Float64
    """Coefficients c_i of the deltas."""
    base: float = 0.0
    """Coefficient b of the base."""
    divisor: float = 1.0
    """Divisor d, kept apart so that equal deltas come back bit by bit from their mean."""

    def of(self, block: Block) -> Float64:
        """Return the combination of a block's deltas, summed in the order of the contributions, in float64."""
        fused_N = np.empty(len(block.base_N))
        sum_rows(
            np.ascontiguousarray(block.deltas_CN).reshape(-1).view(np.uint8),
            "F64",
            base=None,
            coefficients_C=np.where(block.info.present_C, self.deltas_C, 0.0),
            divisor=self.divisor,
            sum_N=fused_N,
            start_N=block.base_N * self.base if self.base else None,
        )
        return fused_N


class LinearCombiner(Combiner):
    """A combiner whose result is a linear combination of the deltas; the engine sums it without holding them all."""

    @abstractmethod
    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return the coefficients, from what was measured."""

    def fuse(self, block: Block) -> Float64:
        """Return the combination of the deltas."""
        return self.combination(block.info).of(block)


class MatrixCombiner(Combiner):
    """A combiner of whole matrices; `fuse` is for tensors of other than two dimensions (or with a dimension of 1)."""

    num_matrices: ClassVar[int] = 6
    """Number of matrices of the tensor's size (float64) that `fuse_matrix` holds at a time, for the memory budget."""
    num_squares: ClassVar[int] = 0
    """Number of matrices of I × I that it holds beside them."""

    @abstractmethod
    def fuse_matrix(self, matrix: Matrix) -> Array:
        """Return the fused delta, shape (O, I); computed with the array API, where the deltas lie (CPU or GPU)."""


class Outer(Method):
    """Moves the base along the fused delta, with a memory of earlier rounds where it has slots."""

    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the numbers that are kept for each element between rounds, in float32."""

    @property
    def factor(self) -> float | None:
        """What the step multiplies the fused delta by, where it does nothing else; None where it does."""
        return None

    @abstractmethod
    def step(self, delta_N: Float64, state: tuple[Float64, ...], *, age: int) -> tuple[Float64, tuple[Float64, ...]]:
        """Return what is added to the base, and the new state.

        Args:
            delta_N: the fused delta Δ; minus the pseudo-gradient.
            state: one array a slot, zeros at first; not to be changed.
            age: how many steps this state has seen, 0 at first.
        """
