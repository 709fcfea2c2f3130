"""Fuse one part of a model, in memory that depends neither on the model nor on the number of contributions.

Elements are taken block by block: for each block the base's elements and then every contribution's, one after the
other, through the same small buffer. On a local disk a block fits into the processor's cache, so that
only reading and writing touch memory; from S3 a block is as large as the part, so that a request is worth its round
trip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from coldfuse.aggregator.execution import Executor
from coldfuse.aggregator.files import LocalRange, RangeReader
from coldfuse.aggregator.plan import Operand, PieceTask, Shard
from coldfuse.codec.model_digest import block_digests
from coldfuse.core.blob import Part
from coldfuse.core.dtypes import Raw
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.errors import FusionError, SchemaMismatchError, UserInputError
from coldfuse.fusion.apply import move
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.kernels import decode
from coldfuse.fusion.methods import find_method

CACHED_ELEMENTS = 1 << 17
"""Block length for local files: a few MiB, that stay in the processor's last cache. Half of it or twice it is as fast;
much shorter, and the threads spend their time handing the interpreter's lock to each other."""

_REMOTE_ELEMENTS = 4 << 20
"""Block length for object stores: requests of up to 16 MiB."""

_FEWEST_ELEMENTS = 1 << 12
"""Shorter blocks would spend more time on Python than on numbers."""

_BYTES_PER_ELEMENT = 5 * 8


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """What all shards of a fusion share."""

    store_url: str | None
    """The store that ranges lie in; None: all lie in local files."""
    method: str
    weights: tuple[float, ...]
    """One a contribution, in fusing order."""
    block_elements: int = CACHED_ELEMENTS
    """Elements that are fused at a time; the result does not depend on it."""


@dataclass(frozen=True, kw_only=True)
class FusedPart:
    """What a task made of a shard."""

    part: Part | None
    """Where it lies, if it went to a store."""
    blocks: Mapping[str, Sequence[str]]
    """The block digests of each tensor, or piece of one, in it."""


Plan = Mapping[str, Sequence[Shard]]
"""All shards, by file and in the order of the file."""

J = TypeVar("J")


def run_plan(
    executor: Executor, task: Callable[[J, Shard], FusedPart], job: J, plan: Plan
) -> tuple[dict[tuple[str, int], Part | None], dict[str, list[str]]]:
    """Run all shards; return the parts made, by file and index, and the block digests of every tensor."""
    todo = [shard for shards in plan.values() for shard in shards if shard.pieces]
    made: dict[int, FusedPart] = dict(executor.run(task, job, todo))
    blocks: dict[str, list[str]] = defaultdict(list)
    for index in range(len(todo)):
        for name, digests in made[index].blocks.items():
            blocks[name] += digests
    return {(shard.file, shard.index): made[index].part for index, shard in enumerate(todo)}, blocks


def block_elements(plan: Plan, *, is_local: bool, task_bytes: int) -> int:
    """Return how many elements can be fused at a time, so that one task stays within `task_bytes`.

    A task holds the part that it makes and, for each element of a block, five numbers of up to 8 bytes: the input as it
    was read, the base, the delta, the sum, and one more while they are combined. Raises `UserInputError` if that does
    not fit.
    """
    part_bytes = max((shard.size_bytes for shards in plan.values() for shard in shards), default=0)
    wanted = CACHED_ELEMENTS if is_local else _REMOTE_ELEMENTS
    fitting = (task_bytes - part_bytes) // _BYTES_PER_ELEMENT
    if fitting < _FEWEST_ELEMENTS:
        needed = (part_bytes + _FEWEST_ELEMENTS * _BYTES_PER_ELEMENT) / 2**20
        raise UserInputError(
            f"each worker may take {task_bytes / 2**20:.1f} MiB, but fusing one part takes {needed:.1f} MiB; "
            "give more --memory or fewer --workers"
        )
    return min(wanted, fitting)


@dataclass(frozen=True)
class _Scratch:
    """Buffers that are used again for every block: fresh ones would cost a page fault every 4 KiB."""

    raw: Raw
    base: Float64
    delta: Float64

    @classmethod
    def of(cls, num_elements: int) -> _Scratch:
        return cls(np.empty(num_elements * 8, np.uint8), np.empty(num_elements), np.empty(num_elements))


def fuse_shard(fusion: Fusion, shard: Shard) -> tuple[bytearray, Mapping[str, Sequence[str]]]:
    """Return a shard's fused bytes, and the block digests of each tensor or piece in it."""
    out = bytearray(shard.size_bytes)
    digests: dict[str, Sequence[str]] = {}
    done = 0
    with RangeReader(fusion.store_url) as reader:
        for piece in shard.pieces:
            view = memoryview(out)[done : done + piece.num_elements * ITEM_BYTES[piece.base.dtype]]
            _fuse_piece(fusion, piece, reader, view)
            digests[piece.tensor] = block_digests(view)
            done += len(view)
    return out, digests


def _fuse_piece(fusion: Fusion, piece: PieceTask, reader: RangeReader, out: memoryview) -> None:
    item = ITEM_BYTES[piece.base.dtype]
    step = min(fusion.block_elements, piece.num_elements)
    scratch = _Scratch.of(step)
    fuse = find_method(fusion.method).fuse
    for first in range(0, piece.num_elements, step):
        count = min(step, piece.num_elements - first)
        view = out[first * item : (first + count) * item]
        reader.read_into(piece.base.where, view, first * item)
        base = np.frombuffer(view, np.uint8)
        if not piece.is_fused:
            _refuse_differences(piece, base, first, reader, scratch)
        elif any(piece.contributions):
            deltas = _read_deltas(piece, base, first, reader, scratch)
            try:
                view[:] = move(base, fuse(Block(count, fusion.weights, deltas)), piece.base.dtype).data
            except FusionError as error:
                raise FusionError(f"tensor {piece.tensor}: {_culprit(piece, count, first, reader) or error}") from error


def _read_deltas(
    piece: PieceTask, base: Raw, first: int, reader: RangeReader, scratch: _Scratch
) -> Iterator[Float64 | None]:
    count = len(base) // ITEM_BYTES[piece.base.dtype]
    values, delta = scratch.base[:count], scratch.delta[:count]
    decode(base, piece.base.dtype, values)
    for operand in piece.contributions:
        if operand is None:
            yield None
            continue
        decode(_read(operand, first, count, reader, scratch), operand.dtype, delta)
        if not operand.is_delta:
            np.subtract(delta, values, out=delta)
        yield delta


def _read(operand: Operand, first: int, count: int, reader: RangeReader, scratch: _Scratch) -> Raw:
    item = ITEM_BYTES[operand.dtype]
    buffer = scratch.raw[: count * item]
    reader.read_into(operand.where, buffer.data, first * item)
    return buffer


def _culprit(piece: PieceTask, count: int, first: int, reader: RangeReader) -> str | None:
    """Say which local model holds NaN or infinity, if one does; contributions of a round were screened for that."""
    scratch = _Scratch.of(count)
    for operand in filter(None, piece.contributions):
        decode(_read(operand, first, count, reader, scratch), operand.dtype, scratch.delta)
        if isinstance(operand.where, LocalRange) and not np.isfinite(scratch.delta).all():
            return f"{operand.where.path} holds NaN or infinity there; did its training diverge? leave it out"
    return None


def _refuse_differences(piece: PieceTask, base: Raw, first: int, reader: RangeReader, scratch: _Scratch) -> None:
    """Integers and booleans are not fused: whole models must agree on them."""
    for operand in filter(None, piece.contributions):
        count = len(base) // ITEM_BYTES[operand.dtype]
        if not np.array_equal(_read(operand, first, count, reader, scratch), base):
            raise SchemaMismatchError(
                f"tensor {piece.tensor} ({piece.base.dtype}) differs from the base's, and only floats are fused; "
                "make the models agree on it"
            )
