"""What all tasks of a fusion share, and how long the blocks are that they work in.

Block lengths follow from the number of contributions alone, so that neither the memory nor the number of workers can
change a sum: a block of all contributions' deltas stays within a few MiB, in the processor's cache, and memory grows
neither with the model nor (up to some hundred) with the contributions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coldfuse.engine.plan import Granularity, Plan, all_shards
from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import LinearCombiner, MatrixCombiner
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.deltas import Encoding

_STACK_ELEMENTS = 1 << 18
"""Of a block of all deltas together: 2 MiB."""

_FEWEST_ELEMENTS, _MOST_ELEMENTS = 1 << 10, 1 << 15

SUM_ELEMENTS = 1 << 16
"""Longest block where deltas are summed as they lie in their files."""

_SUM_STACK_ELEMENTS = 1 << 19
"""Of such a block of all of them together."""

_OTHER_ROWS = 6
"""Of a block, beside the contributions': the base, the sum, and what a formula holds meanwhile."""

_COUNTER_ELEMENTS = 1 << 20
"""What a measure holds beside blocks, in numbers of 8 bytes: counters of a task (4 MiB) and those of all together (as
much once, in the driver), or a small tensor to be sorted."""

_REMOTE_BYTES = 8 << 20
"""Largest request to an object store."""

_LOCAL_BYTES = 4 << 20
"""Read ahead from a store in a folder, of all contributions together."""

Measured = Mapping[tuple[int, str], Mapping[str, Float64]]
"""Results of measures by step and tensor; the tensor is "" for the whole model."""


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """What all shards of a fusion share."""

    recipe: Recipe
    weights: tuple[float, ...]
    """One a contribution, in fusing order."""
    names: tuple[str, ...]
    """What each contribution's random numbers depend on, its digest; not needed unless the recipe `is_random`."""
    seed: str = ""
    """What all random numbers depend on: the round."""
    num_elements: int = 0
    """Of all tensors that are fused."""
    slots: tuple[str, ...] = ()
    """Names of the numbers that are kept for each element between rounds: the outer steps', and the residual."""
    age: int = 0
    """Number of steps that the outer steps' numbers have seen."""
    device: str = "cpu"
    """Name of the device on which whole matrices are worked on."""
    request_bytes: int = 0
    """Read ahead so much of each operand in a store; 0: just what a block needs."""
    delta_dtype: Encoding | None = None
    """Write the fused delta, rounded to this dtype; None: write the fused model in the base's dtypes."""
    measured: Measured = field(default_factory=dict)

    @property
    def num_contributions(self) -> int:
        """C."""
        return len(self.weights)

    @property
    def block_elements(self) -> int:
        """Elements of a block of all deltas: a power of two."""
        return self._share(_STACK_ELEMENTS, _MOST_ELEMENTS)

    @property
    def sum_elements(self) -> int:
        """Elements of a block where deltas are summed as they lie in their files."""
        return self._share(_SUM_STACK_ELEMENTS, SUM_ELEMENTS)

    def _share(self, of: int, most: int) -> int:
        wanted = max(of // self.num_contributions, 1)
        return min(max(1 << (wanted.bit_length() - 1), _FEWEST_ELEMENTS), most)

    @property
    def sums_deltas(self) -> bool:
        """Whether the result is a linear combination, for which no block of all deltas is needed."""
        combiner = self.recipe.combiner
        return isinstance(combiner, LinearCombiner) and type(combiner).fuse is LinearCombiner.fuse


def granularity_of(recipe: Recipe) -> Granularity:
    """Say how far a recipe looks."""
    if isinstance(recipe.combiner, MatrixCombiner):
        return "matrix"
    return "rows" if recipe.whole_rows else "piece"


def task_bytes(fusion: Fusion, plan: Plan) -> int:
    """Return the memory that the largest task takes: its part and the outers' state, blocks, and whole matrices."""
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
    ahead = fusion.request_bytes * (fusion.num_contributions + 1)
    return part + state + blocks * 8 + ahead + _matrix_bytes(fusion, plan)


def require_memory(fusion: Fusion, plan: Plan, limit_bytes: int) -> None:
    """Raise `UserInputError` if a task would take more than a worker may."""
    needed = task_bytes(fusion, plan)
    if needed > limit_bytes:
        raise UserInputError(
            f"each worker may take {limit_bytes / 2**20:.1f} MiB, but this takes {needed / 2**20:.1f} MiB; "
            "give more --memory or fewer --workers"
        )


def request_bytes(*, is_local: bool, num_contributions: int, limit_bytes: int) -> int:
    """Return how much to read ahead from each contribution, for a worker that may take so much memory."""
    wanted = _LOCAL_BYTES if is_local else limit_bytes // 4
    return min(max(wanted // (num_contributions + 1), 64 << 10), _REMOTE_BYTES)


def _longest_row(fusion: Fusion, plan: Plan) -> int:
    if not fusion.recipe.whole_rows:
        return 0
    return max((p.shape[-1] for s in all_shards(plan) for p in s.pieces if p.shape and p.is_fused), default=0)


def _matrix_bytes(fusion: Fusion, plan: Plan) -> int:
    combiner = fusion.recipe.combiner
    if not isinstance(combiner, MatrixCombiner):
        return 0
    shapes = {piece.shape for shard in all_shards(plan) for piece in shard.pieces if piece.is_matrix}
    return max((8 * i * (o * combiner.num_matrices + i * combiner.num_squares) for o, i in shapes), default=0)
