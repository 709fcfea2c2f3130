"""What a fusion will read and write, as data: one shard for each part of the fused model.

The fused model has the base's files, with the same headers and the same parts. A shard is one part: pieces of tensors,
and for each piece where the base's elements and every contribution's elements lie. A contribution that did not change a
tensor has no range there. Because a shard names all its ranges, and nothing else, it can be run anywhere, in any order,
twice, and is no larger than what it is made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coldfuse.aggregator.files import ByteRange, Source
from coldfuse.codec.header import Header, TensorEntry
from coldfuse.codec.parts import PartLayout, Piece, plan_parts
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Some elements of one tensor of one model or delta."""

    where: ByteRange
    dtype: str
    is_delta: bool
    """False: these are a model's own values, and the base is to be subtracted."""


@dataclass(frozen=True, kw_only=True)
class PieceTask:
    """Fuse some elements of one tensor."""

    tensor: str
    num_elements: int
    base: Operand
    contributions: tuple[Operand | None, ...]
    """One a contribution, in fusing order."""
    is_fused: bool
    """False: copied from the base, with which every contribution must agree."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One part of one file of the fused model."""

    file: str
    index: int
    """Which part of the file."""
    start: int
    size_bytes: int
    pieces: tuple[PieceTask, ...]


@dataclass(frozen=True)
class Operands:
    """One model's or one delta's tensors, and where they lie."""

    tensors: Mapping[str, tuple[Source, TensorEntry]]
    is_delta: bool


def operands(files: Iterable[Source], *, is_delta: bool) -> Operands:
    """Index the tensors of the files of a model or delta."""
    return Operands({entry.name: (file, entry) for file in files for entry in file.header.tensors}, is_delta)


def plan_shards(
    files: Mapping[str, Header], *, base: Operands, contributions: Sequence[Operands]
) -> dict[str, list[Shard]]:
    """Plan every part of every safetensors file of the base, in the order of the file; headers are copied."""
    return {
        file: [
            Shard(file=file, index=index, start=layout.start, size_bytes=layout.size_bytes, pieces=pieces)
            for index, layout in enumerate(plan_parts(header))
            for pieces in [_plan_pieces(layout, base, contributions)]
        ]
        for file, header in files.items()
    }


def check_models(base: Schema, model: Schema, *, what: str) -> None:
    """Check that a whole model can be fused with this base, tensor by tensor. Raises `SchemaMismatchError`."""
    for name in sorted(base.keys() | model.keys()):
        if name not in base:
            hint = "it is no fine-tuned copy of this base, or it carries a head or a tied copy; remove that tensor"
            raise SchemaMismatchError(f"{what}: tensor {name} is not in the base: {hint}")
        if name not in model:
            raise SchemaMismatchError(f"{what}: tensor {name} of the base is missing; save the whole model")
        if base[name].shape != model[name].shape:
            sizes = f"shape {list(model[name].shape)}, base has {list(base[name].shape)}"
            raise SchemaMismatchError(f"{what}: tensor {name}: {sizes}; was its vocabulary or a layer resized?")
        if base[name].dtype != model[name].dtype and not (base[name].is_fused and model[name].is_fused):
            raise SchemaMismatchError(f"{what}: tensor {name}: dtype {model[name].dtype}, base has {base[name].dtype}")


def _plan_pieces(layout: PartLayout, base: Operands, contributions: Sequence[Operands]) -> tuple[PieceTask, ...]:
    return tuple(
        PieceTask(
            tensor=piece.tensor.name,
            num_elements=piece.num_elements,
            base=_locate(base, piece) or _missing(piece),
            contributions=tuple(_locate(c, piece) for c in contributions),
            is_fused=piece.tensor.spec.is_fused,
        )
        for piece in layout.pieces
    )


def _locate(source: Operands, piece: Piece) -> Operand | None:
    """Find a piece's elements in another file, which may hold them in another dtype and at another place."""
    if piece.tensor.name not in source.tensors:
        return None
    file, entry = source.tensors[piece.tensor.name]
    same = Piece(tensor=entry, first=piece.first, num_elements=piece.num_elements)
    where = file.range(same.start, same.num_bytes)
    return Operand(where=where, dtype=entry.spec.dtype, is_delta=source.is_delta)


def _missing(piece: Piece) -> Operand:
    raise SchemaMismatchError(f"tensor {piece.tensor.name} is missing from the base")
