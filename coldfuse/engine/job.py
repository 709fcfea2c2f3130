"""What all tasks of a fusion share, and how long the blocks are that they work in.

Block lengths follow from the number of contributions alone, so that neither the memory nor the number of workers can
change a sum: a block of all contributions' deltas stays within a few MiB, in the processor's cache, and memory grows
neither with the model nor (up to some hundred) with the contributions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np

from coldfuse.core.schema import ITEM_BYTES
from coldfuse.engine.operands import AdapterOperand, EncodedOperand
from coldfuse.engine.plan import FactorTask, Granularity, PieceTask, Plan, all_shards
from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.method import LinearCombiner, MatrixCombiner
from coldfuse.fusion.random import key
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.robust.shorten import Shorten
from coldfuse.tensors.checks import PIECE_BYTES
from coldfuse.tensors.encodings import Encoding

_STACK_ELEMENTS = 1 << 18
"""Number of elements in one block of all deltas together: 2 MiB of float64."""

_FEWEST_ELEMENTS = 1 << 10
"""Minimum number of elements of a block, however many contributions there are: shorter ones are mostly overhead."""

_MOST_ELEMENTS = 1 << 15
"""Maximum number of elements of a block, however few contributions there are."""

SUM_ELEMENTS = 1 << 16
"""Maximum number of elements of a block where deltas are summed as they lie in their files."""

_SUM_STACK_ELEMENTS = 1 << 19
"""Number of elements in one such block of all deltas together."""

_OTHER_ROWS = 6
"""Number of rows of a block beside the contributions': the base, the sum, and what a formula holds meanwhile."""

_COUNTER_ELEMENTS = 1 << 20
"""Number of 8-byte numbers that a measure holds beside blocks: counters of a task (4 MiB) and those of all together (as
much once, in the driver), or a small tensor to be sorted."""

_NUM_INFOS = 32
"""Number of tensors and steps of which a fusion remembers what methods know of them."""

_REMOTE_BYTES = 8 << 20
"""Size of the largest request to an object store."""

_FEW_BYTES, _FEWEST_BYTES = 64 << 10, 8 << 10
"""Size of the smallest request, where there is the memory for it, and where there is none: then requests cost."""

_LOCAL_BYTES = 4 << 20
"""Number of bytes that are read ahead from a store in a folder, of all contributions together."""

LEAST_FACTOR_BYTES = 2 << 20
"""Size of what a task holds of factors at least: a few runs of them, and the rows that they expand to."""

MOST_FACTOR_BYTES = 64 << 20
"""Size of what a task holds of factors at most."""

Measured = Mapping[tuple[int, str], Mapping[str, Float64]]
"""Results of measures by step and tensor; the tensor is "" for the whole model."""


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """What all shards of a fusion share."""

    recipe: Recipe
    """What is done with the contributions."""
    weights: tuple[float, ...]
    """Weight of each contribution, in fusing order."""
    tensor_weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The same by tensor, where weights differ from tensor to tensor."""
    own: Measured = field(default_factory=dict)
    """Values of steps' parameters, one a contribution, where they are not the step's own everywhere: by step, and by
    tensor or "" for all tensors."""
    names: tuple[str, ...]
    """Digest of each contribution, which its random numbers depend on; empty unless the recipe `is_random`."""
    seed: str = ""
    """What all random numbers depend on beside the contributions."""
    num_elements: int = 0
    """Number of elements of all tensors that are fused, tied ones once; of a shared LoRA the products are."""
    num_written: int = 0
    """Number of elements of all tensors that are made, tied ones once."""
    slots: tuple[str, ...] = ()
    """Names of the numbers that are kept for each element between fusions: the outer steps', and the residual."""
    age: int = 0
    """Number of fusions that the outer steps' numbers have seen."""
    device: str = "cpu"
    """Name of the device on which whole matrices are worked on."""
    request_bytes: int = 0
    """Number of bytes of each operand in a store that are read at once; 0: just what a block needs."""
    factor_bytes: int = 0
    """Number of bytes of low-rank factors and the like that a task holds, so that not every block reads them again."""
    delta_dtype: Encoding | None = None
    """Dtype of the fused delta, if that is made; None: the fused model is made, in the base's dtypes."""
    measured: Measured = field(default_factory=dict)
    """What the passes before have measured."""

    @property
    def num_contributions(self) -> int:
        """Number of contributions, C."""
        return len(self.weights)

    @cached_property
    def info(self) -> Callable[[str, tuple[int, ...], tuple[bool, ...], tuple[bool, ...], int], TensorInfo]:
        """What a step, by its index in the recipe, knows of a tensor, by its name, shape, who has it and who knows it.

        The last few are kept, as a tensor has many blocks: each takes 24 bytes a contribution.
        """
        return lru_cache(maxsize=_NUM_INFOS)(self._info)

    def _info(
        self, tensor: str, shape: tuple[int, ...], present: tuple[bool, ...], informed: tuple[bool, ...], step: int
    ) -> TensorInfo:
        return TensorInfo(
            tensor=tensor,
            shape=shape,
            weights_C=np.array(self.tensor_weights.get(tensor, self.weights)),
            present_C=np.array(present, bool),
            keys_C=np.array([key(self.seed, name, tensor) for name in self.names if self.recipe.is_random], np.uint64),
            num_elements=self.num_elements,
            informed_C=np.array(informed, bool) if informed else None,
            own={**self.own.get((step, ""), {}), **self.own.get((step, tensor), {})},
            measured={**self.measured.get((step, ""), {}), **self.measured.get((step, tensor), {})},
        )

    def __getstate__(self) -> dict[str, object]:
        """Leave behind what another process makes again."""
        return {name: value for name, value in vars(self).items() if name != "info"}

    @property
    def block_elements(self) -> int:
        """Number of elements of a block of all deltas: a power of two."""
        return self._share(_STACK_ELEMENTS, _MOST_ELEMENTS)

    @property
    def sum_elements(self) -> int:
        """Number of elements of a block where deltas are summed as they lie in their files: a power of two."""
        return self._share(_SUM_STACK_ELEMENTS, SUM_ELEMENTS)

    def _share(self, of: int, most: int) -> int:
        wanted = max(of // self.num_contributions, 1)
        return min(max(1 << (wanted.bit_length() - 1), _FEWEST_ELEMENTS), most)

    @property
    def sums_deltas(self) -> bool:
        """True if the result is a linear combination, for which no block of all deltas is needed."""
        combiner = self.recipe.combiner
        return isinstance(combiner, LinearCombiner) and type(combiner).fuse is LinearCombiner.fuse

    @property
    def stacks_factors(self) -> bool:
        """True if products are combined as factors beside each other, for which no whole matrix is needed."""
        return self.sums_deltas and all(isinstance(step, Shorten) for step in self.recipe.transforms)


def granularity_of(recipe: Recipe) -> Granularity:
    """Say how much of a tensor a recipe looks at to fuse a piece of it."""
    if isinstance(recipe.combiner, MatrixCombiner):
        return "matrix"
    return "rows" if recipe.whole_rows else "piece"


def task_bytes(fusion: Fusion, plan: Plan) -> int:
    """Return the memory that the largest task takes: its part and its state, blocks, and whole matrices.

    An upper bound from sizes alone, beside what a process takes anyway.
    """
    shards = all_shards(plan)
    parts = [part for shard in shards for part in shard.parts]
    part = max((part.size_bytes for part in parts), default=0)
    state = max((sum(part.num_kept(slot) for slot in fusion.slots) for part in parts), default=0) * 4
    row = _longest_row(fusion, plan)
    per_contribution = 2 if any(step.statistic for step in fusion.recipe.steps) else 1
    rows = per_contribution * fusion.num_contributions + _OTHER_ROWS
    blocks = max(fusion.block_elements, row) * 2 * rows  # as read, and as float64
    if fusion.sums_deltas and not fusion.recipe.transforms:
        blocks = max(fusion.sum_elements, row) * rows
    if any(step.measures() for step in fusion.recipe.steps):
        values = 4 * fusion.num_contributions  # what a measure may make of a block: two rows of each, twice
        blocks = max(blocks, max(fusion.block_elements, row) * (2 * rows + values)) + _COUNTER_ELEMENTS
    # What is read ahead of a store is verified in whole pieces: one more at each end, and its checks.
    ahead = (fusion.request_bytes and fusion.request_bytes + 3 * PIECE_BYTES) * (fusion.num_contributions + 1)
    factors = {piece.factor.product.tensor: piece.factor for s in shards for piece in s.pieces if piece.factor}
    cut = max((_cut_bytes(fusion, factor) for factor in factors.values()), default=0)
    return part + state + blocks * 8 + ahead + fusion.factor_bytes + _matrix_bytes(fusion, plan) + cut


def require_memory(fusion: Fusion, plan: Plan, limit_bytes: int) -> None:
    """Raise `UserInputError` if a task would take more than a worker may."""
    needed = task_bytes(fusion, plan)
    if needed > limit_bytes:
        raise UserInputError(
            f"each worker may take {limit_bytes / 2**20:.1f} MiB, but this takes {needed / 2**20:.1f} MiB; "
            "give more --memory or fewer --workers"
        )


def request_bytes(*, is_local: bool, num_contributions: int, limit_bytes: int) -> int:
    """Return how many bytes of each contribution are read at once.

    Args:
        is_local: True if all that is remote lies in a folder, where a request costs little.
        num_contributions: Number of contributions, which are read beside the base.
        limit_bytes: Memory that a worker may take; at most a quarter of it is read ahead.
    """
    wanted = _LOCAL_BYTES if is_local else limit_bytes // 4
    least = min(_FEW_BYTES, max(limit_bytes // 4 // (num_contributions + 1), _FEWEST_BYTES))
    return min(max(wanted // (num_contributions + 1), least), _REMOTE_BYTES)


def holding_factors(fusion: Fusion, plan: Plan, limit_bytes: int) -> Fusion:
    """Return the fusion with factors held as far as the memory allows; no byte of the result changes.

    Args:
        fusion: The fusion, whose contributions may have factors.
        plan: What it reads.
        limit_bytes: Memory that a worker may take.
    """
    pieces = [piece.factor.product if piece.factor else piece for s in all_shards(plan) for piece in s.pieces]
    needed = max(map(_factor_bytes, pieces), default=0)
    if not needed:
        return fusion
    spare = limit_bytes - task_bytes(fusion, plan)
    return replace(fusion, factor_bytes=max(min(needed, spare, MOST_FACTOR_BYTES), LEAST_FACTOR_BYTES))


def _factor_bytes(piece: PieceTask) -> int:
    """Return what a tensor's factors take in float64, beside what is held while a range is expanded."""
    found = 0
    for operand in piece.contributions:
        match operand:
            case EncodedOperand():
                parts = operand.parts.values()
                found += 8 * sum(part.where.length // ITEM_BYTES[part.dtype] for part in parts)
            case AdapterOperand():
                found += MOST_FACTOR_BYTES // 8
    return found and found + LEAST_FACTOR_BYTES


def _longest_row(fusion: Fusion, plan: Plan) -> int:
    if not fusion.recipe.whole_rows:
        return 0
    return max((p.shape[-1] for s in all_shards(plan) for p in s.pieces if p.shape and p.is_fused), default=0)


def _cut_bytes(fusion: Fusion, task: FactorTask) -> int:
    """Return what it takes to make a module's factors, those of all contributions or the whole product included."""
    rows, columns = task.product.shape
    rank = (fusion.num_contributions + 1) * task.base.left.shape[1]
    whole, stacked = 8 * rows * columns, 8 * rank * (rows + columns)
    decomposed = 24 * min(rows, columns) * (rows + columns) + whole  # U, V, and what LAPACK works in
    if not fusion.stacks_factors:
        return 3 * whole + decomposed
    return stacked + whole + decomposed if rank >= min(rows, columns) else 4 * stacked + 48 * rank**2


def _matrix_bytes(fusion: Fusion, plan: Plan) -> int:
    combiner = fusion.recipe.combiner
    if not isinstance(combiner, MatrixCombiner):
        return 0
    shapes = {piece.shape for shard in all_shards(plan) for piece in shard.pieces if piece.is_matrix}
    return max((8 * i * (o * combiner.num_matrices + i * combiner.num_squares) for o, i in shapes), default=0)
