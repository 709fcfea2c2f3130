"""What all tasks of a fusion share, and how long the blocks are that they work in.

Block lengths follow from the number of contributions alone, so that neither the memory nor the number of workers can
change a sum: a block of all contributions' deltas stays within a few MiB, in the processor's cache, and memory grows
neither with the model nor (up to some hundred) with the contributions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coldfuse.core.schema import ITEM_BYTES
from coldfuse.engine.devices import CPU
from coldfuse.engine.plan import AdapterOperand, Granularity, Operand, PieceTask, Plan, all_shards
from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import LinearCombiner, MatrixCombiner, Measure, Method
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.deltas import Encoding

_STACK_ELEMENTS = 1 << 18
"""Of a block of all deltas together: 2 MiB."""

_FEWEST_ELEMENTS, _MOST_ELEMENTS = 1 << 10, 1 << 15

SUM_ELEMENTS = 1 << 16
"""Longest block where deltas are summed as they lie in their files."""

_SUM_STACK_ELEMENTS = 1 << 19
"""Of such a block of all of them together."""

_DEVICE_STACK_ELEMENTS = 1 << 24
"""Of a block of all deltas together on a device: 128 MiB there. The interpreter begins the operations on a block one by
one, which must not take longer than sending it."""

_ALIGNED_BYTES = 16

_OTHER_ROWS = 6
"""Of a block, beside the contributions': the base, the sum, and what a formula holds meanwhile."""

_EXPANDED_ROWS = 4
"""Of a block for a device, to expand an adapter: the base, the product of its factors, and what is made of them."""

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

    store_url: str | None
    """The store that ranges lie in; None: all lie in local files."""
    recipe: Recipe
    weights: tuple[float, ...]
    """One a contribution, in fusing order."""
    names: tuple[str, ...]
    """What each contribution's random numbers depend on, its digest; not needed unless the recipe `is_random`."""
    seed: str = ""
    """What all random numbers depend on: the round."""
    num_elements: int = 0
    """Of all tensors that are fused."""
    age: int = 0
    """Rounds that the outers' state has seen."""
    device: str = "cpu"
    """Where matrices are worked on, and blocks where methods allow it."""
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
    def device_elements(self) -> int:
        """Elements of a block of all deltas on a device: a power of two."""
        return self._share(_DEVICE_STACK_ELEMENTS, _DEVICE_STACK_ELEMENTS)

    @property
    def sum_elements(self) -> int:
        """Elements of a block where deltas are summed as they lie in their files."""
        return self._share(_SUM_STACK_ELEMENTS, SUM_ELEMENTS)

    def _share(self, of: int, most: int) -> int:
        wanted = max(of // self.num_contributions, 1)
        return min(max(1 << (wanted.bit_length() - 1), _FEWEST_ELEMENTS), most)

    def is_on_device(self, step: int, what: Method | Measure) -> bool:
        """Whether a step's formula or measure gets blocks on the device: it takes them, and all transforms before."""
        before = self.recipe.transforms[:step]
        return self.device != CPU and what.on_device and all(transform.on_device for transform in before)

    @property
    def uses_device(self) -> bool:
        """Whether any blocks are worked on there."""
        steps = enumerate(self.recipe.steps)
        return any(self.is_on_device(index, what) for index, step in steps for what in (step, *step.measures()))

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
    part = max((part.size_bytes for shard in shards for part in shard.parts), default=0)
    state = max((part.num_fused for shard in shards for part in shard.parts), default=0) * 4 * len(fusion.recipe.slots)
    row = _longest_row(fusion, plan)
    per_contribution = 2 if any(step.statistic for step in fusion.recipe.steps) else 1
    rows = per_contribution * fusion.num_contributions + _OTHER_ROWS
    blocks = max(fusion.block_elements, row) * 2 * rows  # as read, and as float64
    if fusion.sums_deltas and not fusion.recipe.transforms:
        blocks = max(fusion.sum_elements, row) * rows
    if any(step.measures() for step in fusion.recipe.steps):
        values = 4 * fusion.num_contributions  # what a measure may make of a block: two rows of each, twice
        blocks = max(blocks, max(fusion.block_elements, row) * (2 * rows + values)) + _COUNTER_ELEMENTS
    blocks += _device_floats(fusion, plan)
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


def sent_bytes(piece: PieceTask, num_elements: int) -> list[int]:
    """Return what the base and each contribution take on their way to a device: as in their files, or as float64."""
    items = [0 if o is None else ITEM_BYTES[sent_dtype(o)] for o in (piece.base, *piece.contributions)]
    return [-(-num_elements * item // _ALIGNED_BYTES) * _ALIGNED_BYTES for item in items]


def sent_dtype(operand: Operand | AdapterOperand) -> str:
    """Return the dtype in which an operand is sent to a device: an adapter's is expanded before."""
    return "F64" if isinstance(operand, AdapterOperand) else operand.dtype


def _device_floats(fusion: Fusion, plan: Plan) -> int:
    """Return the host's memory for blocks on a device, in numbers of 8 bytes.

    Two blocks on their way there, in pinned memory, which torch keeps in powers of two, beside the smaller ones that
    they grew from; two results on their way back; and what the outer steps and the rounding make of them.
    """
    if not fusion.uses_device:
        return 0
    pieces = {piece.tensor: piece for shard in all_shards(plan) for piece in shard.pieces if piece.is_fused}
    row, floats = _longest_row(fusion, plan), 0
    for piece in pieces.values():
        elements = min(max(fusion.device_elements, row), piece.tensor_elements)
        sent = 4 * (1 << sum(sent_bytes(piece, elements)).bit_length())
        rows = _OTHER_ROWS + (2 * fusion.num_contributions if any(piece.statistics) else 0)
        rows += _EXPANDED_ROWS if any(isinstance(o, AdapterOperand) for o in piece.contributions) else 0
        floats = max(floats, sent // 8 + elements * rows)
    return floats


def _matrix_bytes(fusion: Fusion, plan: Plan) -> int:
    combiner = fusion.recipe.combiner
    if not isinstance(combiner, MatrixCombiner):
        return 0
    shapes = {piece.shape for shard in all_shards(plan) for piece in shard.pieces if piece.is_matrix}
    return max((8 * i * (o * combiner.num_matrices + i * combiner.num_squares) for o, i in shapes), default=0)
