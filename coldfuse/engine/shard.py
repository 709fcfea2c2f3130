"""Fuse the parts of one shard, block by block, in bounded memory: what a task of the last pass does.

Elements are taken through the same buffers, so memory depends neither on the model nor on one tensor's size, unless the
method works on whole matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from coldfuse.core.dtypes import Raw, from_floats, to_floats
from coldfuse.core.schema import ITEM_BYTES, size_of
from coldfuse.engine.cutting import CutNorms, Cutter
from coldfuse.engine.devices import decompositions, one_blas_thread, to_cpu
from coldfuse.engine.finite import NotFiniteError, file_of
from coldfuse.engine.job import SUM_ELEMENTS, Fusion
from coldfuse.engine.operands import Operand
from coldfuse.engine.plan import RESIDUAL, STATE_DTYPE, FactorTask, PartTask, PieceTask, Shard
from coldfuse.engine.ranges import ElementRange, element_ranges, has_rows, info_of
from coldfuse.engine.reading import BlockReader
from coldfuse.errors import FusionError, SchemaMismatchError
from coldfuse.fusion.apply import is_variance_name, lift_variance, move, surely_finite
from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import Combiner, LinearCombiner, MatrixCombiner
from coldfuse.tensors.model_digest import block_digests

_QUANTISED = frozenset({"F8_E4M3", "F8_E5M2", "I8", "I32", "U8"})
"""Dtypes in which quantised weights lie."""


@dataclass(frozen=True, kw_only=True)
class FusedBytes:
    """One part as it was made."""

    part: PartTask
    data: memoryview
    """The part's bytes, in a buffer that the next part is made in."""
    blocks: Mapping[str, Sequence[str]]
    """The block digests of each tensor, or piece of one, in it."""
    state: Mapping[str, memoryview]
    """The new numbers of each slot for the same elements."""
    num_moved: int
    """Number of elements whose bytes differ from the base's; a tied copy is not counted again."""
    cuts: Mapping[str, CutNorms]
    """What was lost of each module of a shared LoRA whose B begins in it."""


def fuse_shard(fusion: Fusion, shard: Shard) -> Iterator[FusedBytes]:
    """Fuse a shard's parts, one after the other."""
    with BlockReader(fusion) as reader:
        deltas = _Deltas(fusion, reader)
        for part in shard.parts:
            yield _fuse_part(deltas, part)


def _fuse_part(deltas: _Deltas, part: PartTask) -> FusedBytes:
    fusion, reader = deltas.fusion, deltas.reader
    data = reader.buffer("part", part.size_bytes).data
    state = {slot: reader.buffer(f"part {slot}", part.num_kept(slot) * 4).data for slot in fusion.slots}
    digests: dict[str, Sequence[str]] = {}
    cuts: dict[str, CutNorms] = {}
    num_moved, done, done_state = 0, 0, dict.fromkeys(state, 0)
    for piece in part.pieces:
        reader.forget()
        view = data[done : done + size_of(_dtype(fusion, piece), piece.num_elements)]
        if piece.factor is not None:
            num_moved += _fuse_factor(deltas, piece, piece.factor, np.frombuffer(view, np.uint8))
            cuts |= deltas.cuts(piece, piece.factor)
        elif piece.is_fused:
            new: dict[str, Raw] = {}
            for slot in fusion.slots:
                if piece.keeps(slot):
                    new[slot] = np.frombuffer(state[slot], np.uint8, piece.num_elements * 4, done_state[slot])
                    done_state[slot] += piece.num_elements * 4
            num_moved += _PieceFusion(deltas, piece, np.frombuffer(view, np.uint8), new).run()
        else:
            _copy_piece(reader, piece, view)
        digests[piece.tensor] = block_digests(view)
        done += len(view)
    return FusedBytes(part=part, data=data, blocks=digests, state=state, num_moved=num_moved, cuts=cuts)


class _Deltas:
    """The fused delta of a piece, range by range; a matrix is worked on once for all its pieces."""

    def __init__(self, fusion: Fusion, reader: BlockReader) -> None:
        self.fusion, self.reader = fusion, reader
        self._matrix: tuple[str, Float64] | None = None
        self.cutter = Cutter(fusion, reader.read_factor, self._product)

    def cuts(self, piece: PieceTask, factor: FactorTask) -> dict[str, CutNorms]:
        """Return what was lost of a module whose B begins with this piece."""
        made = self.cutter.cut(factor) if factor.is_up and not piece.first else None
        return {factor.product.tensor: CutNorms(norm=made.norm, lost=made.lost)} if made else {}

    def _product(self, product: PieceTask) -> Float64:
        """Fuse a whole product."""
        part = PartTask(index=0, start=0, size_bytes=product.num_elements * 8, pieces=(product,))
        [values_OI] = [
            np.frombuffer(made.data, np.float64).reshape(product.shape).copy()
            for made in fuse_shard(replace(self.fusion, slots=()), Shard(file="", parts=(part,)))
        ]
        return values_OI

    def of(self, piece: PieceTask) -> Iterator[tuple[ElementRange, Float64]]:
        """Yield the piece's element_ranges and their fused deltas (in a buffer that is used again)."""
        fusion, combiner = self.fusion, self.fusion.recipe.combiner
        step = len(fusion.recipe.transforms)
        if isinstance(combiner, MatrixCombiner) and piece.is_matrix:
            flat_N = self._whole(piece, combiner)
            for first, count in _plain_ranges(piece):
                yield (first, count), flat_N[first : first + count]
        elif fusion.sums_deltas:
            combination = cast(LinearCombiner, combiner).combination(info_of(fusion, piece, step))
            for elements in element_ranges(fusion, piece, length=self.reader.sum_length(piece, combination)):
                yield _clipped(piece, elements, self.reader.sum_deltas(piece, elements, combination))
        else:
            has_loop = has_rows(piece, step=step) and type(combiner).fuse_rows is not Combiner.fuse_rows
            length = fusion.sum_elements if has_loop and not fusion.recipe.whole_rows else 0
            for elements in element_ranges(fusion, piece, length=length):
                fused_N = self._of_rows(piece, elements, step) if length else None
                if fused_N is None:
                    fused_N = combiner.fuse(self.reader.block(piece, elements, step=step))
                yield _clipped(piece, elements, fused_N)

    def _of_rows(self, piece: PieceTask, elements: ElementRange, step: int) -> Float64 | None:
        """Fuse deltas as they lie in their files, if the combiner has a loop for that."""
        rows = self.reader.rows(piece, elements, step=step)
        if rows is None:
            return None
        made = self.fusion.recipe.combiner.fuse_rows(info_of(self.fusion, piece, step), rows)
        if made is not None and not made[1]:
            self.reader.require_finite([piece])
        return None if made is None else made[0]

    def _whole(self, piece: PieceTask, combiner: MatrixCombiner) -> Float64:
        if self._matrix is None or self._matrix[0] != piece.tensor:
            matrix = self.reader.matrix(piece, step=len(self.fusion.recipe.transforms))
            with one_blas_thread(), decompositions():
                fused = combiner.fuse_matrix(matrix)
            self._matrix = piece.tensor, to_cpu(fused)
        return self._matrix[1]


def _fuse_factor(deltas: _Deltas, piece: PieceTask, factor: FactorTask, out: Raw) -> int:
    """Write a piece of a module's new factor; return the number of elements that moved."""
    elements, dtype = (piece.first, piece.num_elements), piece.base.dtype
    base = deltas.reader.base_raw(piece, elements)
    made = deltas.cutter.cut(factor)
    if made is None:
        out[:] = base
        return 0
    values_N = (made.up_OR if factor.is_up else made.down_RI).reshape(-1)[
        piece.first : piece.first + piece.num_elements
    ]
    out[:] = from_floats(values_N, dtype)
    if not np.isfinite(to_floats(out, dtype)).all():
        raise FusionError(f"tensor {piece.tensor}: the fused factor does not fit into {dtype}")
    kind = f"u{ITEM_BYTES[dtype]}"
    return int(np.count_nonzero(out.view(kind) != base.view(kind)))


class _PieceFusion:
    """Writes one piece's fused elements to `out`, and the new numbers of each slot to `state`."""

    def __init__(self, deltas: _Deltas, piece: PieceTask, out: Raw, state: Mapping[str, Raw]) -> None:
        self._deltas, self._fusion, self._reader = deltas, deltas.fusion, deltas.reader
        self._piece, self._out, self._state = piece, out, state
        self._item = ITEM_BYTES[_dtype(deltas.fusion, piece)]

    def run(self) -> int:
        """Fuse it; return the number of elements that moved."""
        piece, fusion = self._piece, self._fusion
        if not (any(piece.contributions) or fusion.recipe.slots or fusion.delta_dtype):
            self._keep()
            return 0
        num_moved = 0
        try:
            for elements, fused_N in self._deltas.of(piece):
                delta_N = self._step(elements, fused_N) if fusion.recipe.outers else fused_N
                num_moved += self._finish(elements, delta_N)
        except NotFiniteError:
            raise
        except FusionError as error:
            self._reader.require_finite([piece])  # which is then the reason
            raise FusionError(f"tensor {piece.tensor}: {error}") from error
        return 0 if piece.tied_to else num_moved

    def _keep(self) -> None:
        """Copy the base and what rounding dropped of it: nobody changes this piece."""
        self._reader.raw(self._piece.base, (self._piece.first, self._piece.num_elements), into=self._out)
        for first, count in _plain_ranges(self._piece):
            for slot in self._state:
                self._new(slot, (first, count))[:] = from_floats(self._old(slot, (first, count)), STATE_DTYPE)

    def _step(self, elements: ElementRange, delta_N: Float64) -> Float64:
        """Take the outer steps along a fused delta, and write their new numbers."""
        if not surely_finite(delta_N):
            raise FusionError("the fused delta is not finite")
        for outer in self._fusion.recipe.outers:
            old = tuple(self._old(slot, elements) for slot in outer.slots)
            delta_N, new = outer.step(delta_N, old, age=self._fusion.age)
            for slot, values in zip(outer.slots, new, strict=True):
                kept = self._new(slot, elements)
                kept[:] = from_floats(values, STATE_DTYPE)
                if not surely_finite(to_floats(kept, STATE_DTYPE)):
                    raise FusionError(f"the outer step's {slot} leaves the range of float32; a delta is far too large")
        return delta_N

    def _finish(self, elements: ElementRange, delta_N: Float64) -> int:
        """Write the base moved along the delta, or the delta itself; return the number of elements that moved."""
        out, dtype = self._part_of(self._out, elements, self._item), self._fusion.delta_dtype
        if dtype is not None:
            out[:] = from_floats(delta_N, dtype)
            if not np.isfinite(to_floats(out, dtype)).all():
                raise FusionError(f"the fused delta is not finite, or does not fit into {dtype}; take a wider --dtype")
            return 0
        own = self._piece.base.dtype
        base = self._reader.base_raw(self._piece, elements)
        if RESIDUAL in self._state:
            base_N, old_N = self._reader.base(self._piece, elements), self._old(RESIDUAL, elements)
            # An element that nobody moves keeps its bytes and its residual, whatever their sum would round to.
            is_still_N = delta_N == 0
            step_N = np.where(is_still_N, 0.0, delta_N + old_N)
            move(base, step_N, own, out=out)
            dropped_N = np.where(is_still_N, old_N, (base_N - to_floats(out, own)) + step_N)
            self._new(RESIDUAL, elements)[:] = from_floats(dropped_N, STATE_DTYPE)
        else:
            move(base, delta_N, own, out=out)
        if is_variance_name(self._piece.tensor):
            lift_variance(base, out, own)
        kind = f"u{self._item}"
        return int(np.count_nonzero(out.view(kind) != base.view(kind)))

    def _old(self, slot: str, elements: ElementRange) -> Float64:
        operand = self._piece.state[self._fusion.slots.index(slot)] if self._piece.state else None
        return np.zeros(elements[1]) if operand is None else self._reader.values(operand, elements)

    def _new(self, slot: str, elements: ElementRange) -> Raw:
        return self._part_of(self._state[slot], elements, 4)

    def _part_of(self, raw: Raw, elements: ElementRange, item: int) -> Raw:
        start = elements[0] - self._piece.first
        return raw[start * item : (start + elements[1]) * item]


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


def _copy_piece(reader: BlockReader, piece: PieceTask, view: memoryview) -> None:
    """Copy what is not fused. Integers and booleans are not: whole models must agree on them, unless they count."""
    whole = piece.first, piece.num_elements
    base = reader.raw(piece.base, whole, into=np.frombuffer(view, np.uint8))
    if piece.tensor.endswith("num_batches_tracked"):
        return
    for operand in piece.contributions:
        if not isinstance(operand, Operand):
            continue
        for first, count in _plain_ranges(piece):
            start = size_of(operand.dtype, first - piece.first)
            own = base[start : start + size_of(operand.dtype, count)]
            if not np.array_equal(reader.raw(operand, (first, count)), own):
                hint = "make the models agree on it"
                if piece.base.dtype in _QUANTISED:
                    hint = f"{hint}, or, if its weights are quantised, give the models unquantised"
                raise SchemaMismatchError(
                    f"tensor {piece.tensor} ({piece.base.dtype}) differs from the base's, and only floats are fused; "
                    f"{hint} ({file_of(operand) or 'a contribution'} does not)"
                )
