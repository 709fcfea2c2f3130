"""What a fusion will read and write, as data: one shard for each part of the fused model.

The fused model has the base's files, with the same headers and the same parts. A shard is one part: pieces of tensors,
and for each piece where the base's elements and every contribution's elements lie. A contribution that did not change a
tensor has no range there. Because a shard names all its ranges, and nothing else, it can be run anywhere, in any order,
twice, and is no larger than what it is made from. Methods that need whole rows or whole matrices get ranges that reach
beyond the piece; the parts of one matrix are one shard, so that it is worked on once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from coldfuse.adapters.changes import Product
from coldfuse.core.schema import TensorSpec, size_of
from coldfuse.engine.operands import AdapterOperand, AnyOperand, Changing, CodedOperand, Operand, Operands
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.codes import BLOCK, coded_range
from coldfuse.tensors.header import Header, TensorEntry
from coldfuse.tensors.parts import PartLayout, Piece, plan_parts

Granularity = Literal["piece", "rows", "matrix"]
"""How much of a tensor a method looks at to fuse a piece of it."""

STATE_DTYPE = "F32"
"""Dtype of all state that is kept between rounds."""

RESIDUAL = "residual"
"""The slot that keeps what rounding to a narrow dtype drops."""

NARROW_DTYPES = frozenset({"BF16", "F16"})
"""Dtypes that are often narrower than a step: small steps would vanish in their rounding."""


@dataclass(frozen=True, kw_only=True)
class PieceTask:
    """Fuse some elements of one tensor."""

    tensor: str
    """Name of the tensor."""
    shape: tuple[int, ...]
    """Shape of the whole tensor."""
    first: int
    """Index of the first element in the tensor."""
    num_elements: int
    base: Operand
    """The base's elements, at least those of the piece."""
    contributions: tuple[AnyOperand | None, ...]
    """Each contribution's elements, in fusing order; None where it does not change the tensor."""
    statistics: tuple[Operand | CodedOperand | None, ...] = ()
    """Each contribution's statistics under the tensor's name, None where it has none; empty if the recipe asks for
    none."""
    state: tuple[Operand | None, ...] = ()
    """Each slot's numbers of the fusion before; None where there are none yet."""
    is_fused: bool
    """True if the elements are fused; False if they are copied from the base, with which all must agree."""
    factor: FactorTask | None = None
    """How the elements are made where they are a factor's of a shared LoRA; None: from the operands."""
    tied_to: str = ""
    """Name of the tensor whose copy this one is, and whose elements all operands are; "" if it is no copy."""

    @property
    def known_as(self) -> str:
        """The tensor's name in formulas, that measures and random numbers go by: one for tied tensors."""
        return self.tied_to or self.tensor

    def keeps(self, slot: str) -> bool:
        """Tell whether each element has a number in this slot of the state."""
        return self.is_fused and has_state(slot, self.base.dtype)

    @property
    def is_matrix(self) -> bool:
        """True if matrix methods work on the whole tensor; they take other tensors element by element."""
        return self.is_fused and len(self.shape) == 2 and min(self.shape) > 1

    @property
    def tensor_elements(self) -> int:
        """Number of elements of the whole tensor."""
        return TensorSpec(dtype=self.base.dtype, shape=self.shape).num_elements


@dataclass(frozen=True, kw_only=True)
class FactorTask:
    """Makes one of the two factors of a module of a shared LoRA, from their product."""

    is_up: bool
    """True for B, False for A."""
    product: PieceTask
    """The product, whole, and what each contribution makes of it."""
    base: Product
    """The base's factors."""
    scale: float
    """The factor s that PEFT multiplies BA by."""


@dataclass(frozen=True, kw_only=True)
class PartTask:
    """One part of one file of the fused model."""

    index: int
    """Index of the part in its file."""
    start: int
    """Byte in the file at which the part begins."""
    size_bytes: int
    pieces: tuple[PieceTask, ...]

    def num_kept(self, slot: str) -> int:
        """Return the number of elements that have a number in a slot of the state."""
        return sum(piece.num_elements for piece in self.pieces if piece.keeps(slot))


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Consecutive parts of one file that one task makes: one, unless they are parts of one matrix."""

    file: str
    """Name of the file that is made."""
    parts: tuple[PartTask, ...]

    @property
    def pieces(self) -> Iterator[PieceTask]:
        """All pieces, in order."""
        return (piece for part in self.parts for piece in part.pieces)


Plan = Mapping[str, Sequence[Shard]]
"""All shards, by file and in the order of the file."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that is read."""

    base: Operands
    contributions: Sequence[Operands | Changing]
    statistics: Sequence[Operands] = ()
    """Each contribution's statistics, if the method asks for them."""
    state: Sequence[Operands | None] = ()
    """Each slot's numbers; None where there are none yet."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """The tensor that each copy among the base's tensors is a copy of; a copy is fused from what that tensor has."""


def has_state(slot: str, dtype: str) -> bool:
    """Tell whether a fused tensor of this dtype has numbers in a slot: all have those of outer steps."""
    return slot != RESIDUAL or dtype in NARROW_DTYPES


def plan_shards(
    files: Mapping[str, Header], inputs: Inputs, *, granularity: Granularity = "piece"
) -> dict[str, list[Shard]]:
    """Plan every part of the files that are made, given their headers; the parts of headers have no pieces.

    Raises:
        SchemaMismatchError: The base lacks a tensor that is to be made.
    """
    plan: dict[str, list[Shard]] = {}
    for file, header in files.items():
        parts = [
            PartTask(
                index=index,
                start=layout.start,
                size_bytes=layout.size_bytes,
                pieces=_plan_pieces(layout, inputs, granularity),
            )
            for index, layout in enumerate(plan_parts(header))
        ]
        plan[file] = [Shard(file=file, parts=tuple(group)) for group in _together(parts, granularity)]
    return plan


def plan_whole(tensor: TensorEntry, inputs: Inputs) -> PieceTask:
    """Plan a whole tensor as one piece."""
    return _plan_piece(Piece(tensor=tensor, first=0, num_elements=tensor.spec.num_elements), inputs, "matrix")


def all_shards(plan: Plan) -> list[Shard]:
    """Return all shards that have something to fuse or copy, in order."""
    return [shard for shards in plan.values() for shard in shards if any(True for _ in shard.pieces)]


def measured_shards(plan: Plan) -> list[Shard]:
    """Return all shards of a plan without tied copies: what is one weight is measured once."""

    def only_firsts(part: PartTask) -> PartTask:
        return replace(part, pieces=tuple(piece for piece in part.pieces if not piece.tied_to))

    shards = [replace(s, parts=tuple(only_firsts(part) for part in s.parts)) for s in all_shards(plan)]
    return [shard for shard in shards if any(True for _ in shard.pieces)]


def copied_shards(shards: Iterable[Shard]) -> list[Shard]:
    """Return what is copied from the base in these shards, in parts of nothing else."""
    found = []
    for shard in shards:
        for part in shard.parts:
            if pieces := tuple(piece for piece in part.pieces if not piece.is_fused):
                size = sum(size_of(piece.base.dtype, piece.num_elements) for piece in pieces)
                copied = PartTask(index=part.index, start=part.start, size_bytes=size, pieces=pieces)
                found.append(Shard(file=shard.file, parts=(copied,)))
    return found


def _together(parts: Sequence[PartTask], granularity: Granularity) -> Iterator[list[PartTask]]:
    """Group the parts that one task makes."""
    if granularity != "matrix":
        yield from ([part] for part in parts)
        return
    for _, group in groupby(parts, key=lambda part: part.pieces[0].tensor if part.pieces else ""):
        yield list(group)  # a part that begins with the same tensor as the one before is a cut of it


def _plan_pieces(layout: PartLayout, inputs: Inputs, granularity: Granularity) -> tuple[PieceTask, ...]:
    return tuple(_plan_piece(piece, inputs, granularity) for piece in layout.pieces)


def _plan_piece(piece: Piece, inputs: Inputs, granularity: Granularity) -> PieceTask:
    tied_to = inputs.tied.get(piece.tensor.name, "")
    known = replace(piece, tensor=replace(piece.tensor, name=tied_to)) if tied_to else piece
    contributions = tuple(_locate_contribution(c, known, granularity) for c in inputs.contributions)
    by_rows = any(isinstance(c, AdapterOperand) and c.change.needs_base for c in contributions)
    is_fused = piece.tensor.spec.is_fused
    return PieceTask(
        tensor=piece.tensor.name,
        shape=piece.tensor.spec.shape,
        first=piece.first,
        num_elements=piece.num_elements,
        base=_locate(inputs.base, known, granularity, by_rows=by_rows) or _missing(piece),
        contributions=contributions,
        statistics=tuple(_locate_statistics(s, known, granularity) for s in inputs.statistics),
        state=tuple(_locate(s, known, granularity) if s and is_fused else None for s in inputs.state),
        is_fused=is_fused,
        tied_to=tied_to,
    )


def _locate_contribution(source: Operands | Changing, piece: Piece, granularity: Granularity) -> AnyOperand | None:
    if isinstance(source, Operands):
        return source.encoded.get(piece.tensor.name) or _locate(source, piece, granularity)
    change = source.tensors.get(piece.tensor.name)
    return AdapterOperand(what=source.what, change=change) if change else None


def _locate(source: Operands, piece: Piece, granularity: Granularity, *, by_rows: bool = False) -> Operand | None:
    """Find a piece's elements in another file, which may hold them in another dtype and at another place."""
    if piece.tensor.name not in source.tensors:
        return None
    file, entry = source.tensors[piece.tensor.name]
    if entry.spec.shape == piece.tensor.spec.shape:
        first, end = _element_range(piece, granularity, by_rows=by_rows)
    else:
        first, end = 0, entry.spec.num_elements  # a Gram matrix, not elements that lie beside the base's
    dtype = entry.spec.dtype
    where = file.file.range(entry.start + size_of(dtype, first), size_of(dtype, end - first))
    return Operand(where=where, first=first, dtype=dtype, is_delta=source.is_delta)


def _locate_statistics(source: Operands, piece: Piece, granularity: Granularity) -> Operand | CodedOperand | None:
    """Find what statistics say of a piece: its elements, or a whole Gram matrix."""
    if source.coding is None or piece.tensor.name not in source.tensors:
        return _locate(source, piece, granularity)
    file, entry = source.tensors[piece.tensor.name]
    shape = piece.tensor.spec.shape
    if source.is_gram:
        size = shape[-1]
        return CodedOperand(
            where=file.range(entry), first=0, num_coded=size * size, coding=source.coding, gram_size=size
        )  # fmt: skip
    first, end = _element_range(piece, granularity, by_rows=False)
    begin, start, stop = coded_range(first, end - first, source.coding)
    where = file.file.range(entry.start + start, min(stop, entry.spec.size_bytes) - start)
    blocks_end = min(-(-end // BLOCK) * BLOCK, piece.tensor.spec.num_elements)
    return CodedOperand(where=where, first=begin, num_coded=blocks_end - begin, coding=source.coding)


def _element_range(piece: Piece, granularity: Granularity, *, by_rows: bool) -> tuple[int, int]:
    """Return the first element that is looked at, and the one after the last; `by_rows`: of the first dimension."""
    shape, end = piece.tensor.spec.shape, piece.first + piece.num_elements
    if not shape or not piece.num_elements or (granularity == "piece" and not by_rows):
        return piece.first, end
    if granularity == "matrix" and len(shape) == 2:
        return 0, piece.tensor.spec.num_elements
    row = math.prod(shape[1:]) if by_rows else shape[-1]
    return piece.first // row * row, -(-end // row) * row


def _missing(piece: Piece) -> Operand:
    raise SchemaMismatchError(f"tensor {piece.tensor.name} is missing from the base")
