"""Fuse the parts of a model: measure what the method needs, then make every part, in bounded memory.

`fuse_shard` is one task: for each part the fused bytes, and the outers' state of the same elements. Elements are taken
block by block through the same buffers, so memory depends neither on the model nor on one tensor's size, unless the
method works on whole matrices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np

from coldfuse.core.blob import Part
from coldfuse.core.dtypes import Raw, from_floats, to_floats
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.engine.device_blocks import one_later
from coldfuse.engine.devices import decompositions, one_blas_thread, to_cpu
from coldfuse.engine.execution import Executor
from coldfuse.engine.finite import NotFiniteError, file_of
from coldfuse.engine.job import SUM_ELEMENTS, Fusion
from coldfuse.engine.plan import (
    STATE_DTYPE,
    Operand,
    PartTask,
    PieceTask,
    Plan,
    Shard,
    all_shards,
)
from coldfuse.engine.ranges import ElementRange, element_ranges, info_of
from coldfuse.engine.reading import BlockReader
from coldfuse.errors import FusionError, SchemaMismatchError
from coldfuse.fusion.apply import move, surely_finite
from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import LinearCombiner, MatrixCombiner
from coldfuse.tensors.model_digest import block_digests


@dataclass(frozen=True, kw_only=True)
class FusedBytes:
    """One part as it was made."""

    part: PartTask
    data: memoryview
    """In a buffer that the next part is made in."""
    blocks: Mapping[str, Sequence[str]]
    """The block digests of each tensor, or piece of one, in it."""
    state: tuple[memoryview, ...]
    """The outers' new state of the same elements, one a slot."""


@dataclass(frozen=True, kw_only=True)
class FusedPart:
    """What a task made of a part."""

    index: int
    part: Part | None
    """Where it lies, if it went to a store."""
    blocks: Mapping[str, Sequence[str]]
    """The block digests of each tensor, or piece of one, in it."""
    state: tuple[Part, ...] = ()
    """Where the outers' state lies, if it went to a store."""


J = TypeVar("J")


def run_plan(
    executor: Executor, task: Callable[[J, Shard], list[FusedPart]], job: J, plan: Plan
) -> tuple[dict[tuple[str, int], FusedPart], dict[str, list[str]]]:
    """Run all shards; return the parts made, by file and index, and the block digests of every tensor."""
    todo = all_shards(plan)
    made: dict[int, list[FusedPart]] = dict(executor.run(task, job, todo))
    blocks: dict[str, list[str]] = defaultdict(list)
    for index in range(len(todo)):
        for part in made[index]:
            for name, digests in part.blocks.items():
                blocks[name] += digests
    return {(shard.file, part.index): part for i, shard in enumerate(todo) for part in made[i]}, blocks


def fuse_shard(fusion: Fusion, shard: Shard) -> Iterator[FusedBytes]:
    """Fuse a shard's parts, one after the other."""
    with BlockReader(fusion) as reader:
        deltas = _Deltas(fusion, reader)
        for part in shard.parts:
            data = reader.buffer("part", part.size_bytes).data
            state = tuple(reader.buffer(f"part {slot}", part.num_fused * 4).data for slot in fusion.recipe.slots)
            digests: dict[str, Sequence[str]] = {}
            done = done_state = 0
            for piece in part.pieces:
                reader.forget()
                view = data[done : done + piece.num_elements * ITEM_BYTES[_dtype(fusion, piece)]]
                if piece.is_fused:
                    size = piece.num_elements * 4
                    views = [np.frombuffer(s, np.uint8, size, done_state) for s in state]
                    _fuse_piece(deltas, piece, np.frombuffer(view, np.uint8), views)
                    done_state += size
                else:
                    _copy_piece(reader, piece, view)
                digests[piece.tensor] = block_digests(view)
                done += len(view)
            reader.settle(part.pieces)
            yield FusedBytes(part=part, data=data, blocks=digests, state=state)


class _Deltas:
    """The fused delta of a piece, range by range; a matrix is worked on once for all its pieces."""

    def __init__(self, fusion: Fusion, reader: BlockReader) -> None:
        self.fusion, self.reader = fusion, reader
        self._matrix: tuple[str, Float64] | None = None

    def of(self, piece: PieceTask) -> Iterator[tuple[ElementRange, Float64]]:
        """Yield the piece's element_ranges and their fused deltas (in a buffer that is used again)."""
        fusion, combiner = self.fusion, self.fusion.recipe.combiner
        step = len(fusion.recipe.transforms)
        if isinstance(combiner, MatrixCombiner) and piece.is_matrix:
            flat_N = self._whole(piece, combiner)
            for first, count in _plain_ranges(piece):
                yield (first, count), flat_N[first : first + count]
        elif fusion.is_on_device(step, combiner):
            for elements, fetched in one_later(self._on_device(piece, step)):
                yield _clipped(piece, elements, fetched())
        elif fusion.sums_deltas:
            combination = cast(LinearCombiner, combiner).combination(info_of(fusion, piece, step))
            for elements in element_ranges(fusion, piece, length=self.reader.sum_length(piece, combination)):
                yield _clipped(piece, elements, self.reader.sum_deltas(piece, elements, combination))
        else:
            for elements in element_ranges(fusion, piece):
                yield _clipped(piece, elements, combiner.fuse(self.reader.block(piece, elements, step=step)))

    def _on_device(self, piece: PieceTask, step: int) -> Iterator[tuple[ElementRange, Callable[[], Float64]]]:
        """Begin to fuse a piece's element_ranges on the device; yield what waits for each result."""
        blocks = self.reader.on_device
        for elements in element_ranges(self.fusion, piece, length=self.fusion.device_elements):
            yield elements, blocks.fetch(self.fusion.recipe.combiner.fuse(blocks.block(piece, elements, step=step)))

    def _whole(self, piece: PieceTask, combiner: MatrixCombiner) -> Float64:
        if self._matrix is None or self._matrix[0] != piece.tensor:
            matrix = self.reader.matrix(piece, step=len(self.fusion.recipe.transforms))
            with one_blas_thread(), decompositions():
                fused = combiner.fuse_matrix(matrix)
            self._matrix = piece.tensor, to_cpu(fused)
        return self._matrix[1]


def _fuse_piece(deltas: _Deltas, piece: PieceTask, out: Raw, state: Sequence[Raw]) -> None:
    """Write the piece's fused elements to `out`, and the outers' new state to `state`."""
    item, reader, recipe = ITEM_BYTES[_dtype(deltas.fusion, piece)], deltas.reader, deltas.fusion.recipe
    if not any(piece.contributions) and not recipe.slots and deltas.fusion.delta_dtype is None:
        reader.raw(piece.base, (piece.first, piece.num_elements), into=out)
        return
    try:
        for (first, count), delta_N in deltas.of(piece):
            start = first - piece.first
            new = [part[start * 4 : (start + count) * 4] for part in state]
            moved_N = _step(deltas, piece, (first, count), delta_N, new) if recipe.outers else delta_N
            _finish(deltas, piece, (first, count), moved_N, out[start * item : (start + count) * item])
    except NotFiniteError:
        raise
    except FusionError as error:
        reader.require_finite([piece])  # which is then the reason
        raise FusionError(f"tensor {piece.tensor}: {error}") from error


def _step(deltas: _Deltas, piece: PieceTask, elements: ElementRange, delta_N: Float64, state: Sequence[Raw]) -> Float64:
    """Take the outers' steps along a fused delta, and write their new state."""
    if not surely_finite(delta_N):
        raise FusionError("the fused delta is not finite")
    slots = dict(zip(deltas.fusion.recipe.slots, range(len(state)), strict=True))
    for outer in deltas.fusion.recipe.outers:
        indices = [slots[slot] for slot in outer.slots]
        old = tuple(
            deltas.reader.values(piece.state[i], elements) if piece.state else np.zeros(elements[1]) for i in indices
        )
        delta_N, new = outer.step(delta_N, old, age=deltas.fusion.age)
        for i, values in zip(indices, new, strict=True):
            state[i][:] = from_floats(values, STATE_DTYPE)
    return delta_N


def _finish(deltas: _Deltas, piece: PieceTask, elements: ElementRange, delta_N: Float64, out: Raw) -> None:
    """Write the base moved along the delta, or the delta itself."""
    dtype = deltas.fusion.delta_dtype
    if dtype is None:
        base, _ = deltas.reader.base(piece, elements)
        move(base, delta_N, piece.base.dtype, out=out)
        _check_variance(piece, out, piece.base.dtype)
        return
    out[:] = from_floats(delta_N, dtype)
    if not np.isfinite(to_floats(out, dtype)).all():
        raise FusionError(f"the fused delta is not finite, or does not fit into {dtype}; take a wider --dtype")


def _dtype(fusion: Fusion, piece: PieceTask) -> str:
    """Return the dtype in which a piece is written."""
    return fusion.delta_dtype if fusion.delta_dtype and piece.is_fused else piece.base.dtype


def _clipped(piece: PieceTask, elements: ElementRange, delta_N: Float64) -> tuple[ElementRange, Float64]:
    """Cut off what whole rows reach beyond the piece."""
    first, end = max(elements[0], piece.first), min(elements[0] + elements[1], piece.first + piece.num_elements)
    return (first, end - first), delta_N[first - elements[0] : end - elements[0]]


def _plain_ranges(piece: PieceTask) -> Iterator[ElementRange]:
    end = piece.first + piece.num_elements
    return ((first, min(SUM_ELEMENTS, end - first)) for first in range(piece.first, end, SUM_ELEMENTS))


def _check_variance(piece: PieceTask, out: Raw, dtype: str) -> None:
    if piece.tensor.endswith("running_var") and (to_floats(out, dtype) < 0).any():
        raise FusionError("the fused variance is negative, so the model would answer NaN; take a method that averages")


def _copy_piece(reader: BlockReader, piece: PieceTask, view: memoryview) -> None:
    """Copy what is not fused. Integers and booleans are not: whole models must agree on them, unless they count."""
    whole = piece.first, piece.num_elements
    base = reader.raw(piece.base, whole, into=np.frombuffer(view, np.uint8))
    if piece.tensor.endswith("num_batches_tracked"):
        return
    for operand in piece.contributions:
        if not isinstance(operand, Operand):
            continue
        item = ITEM_BYTES[operand.dtype]
        for first, count in _plain_ranges(piece):
            start = (first - piece.first) * item
            if not np.array_equal(reader.raw(operand, (first, count)), base[start : start + count * item]):
                raise SchemaMismatchError(
                    f"tensor {piece.tensor} ({piece.base.dtype}) differs from the base's, and only floats are fused; "
                    f"make the models agree on it ({file_of(operand) or 'a contribution'} does not)"
                )
