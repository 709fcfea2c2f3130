"""Where the elements of a base, a contribution or its statistics lie, and what they are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from coldfuse.adapters.adapter import AdapterTensor, Stored
from coldfuse.core.schema import Schema
from coldfuse.core.statistics import Coding
from coldfuse.tensors.checkpoint import Place
from coldfuse.tensors.encodings import DENSE, Encoded, part_name
from coldfuse.tensors.files import ByteRange
from coldfuse.tensors.header import TensorEntry
from coldfuse.tensors.tensor_file import TensorFile


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Some consecutive elements of one tensor of one model, delta or other file."""

    where: ByteRange
    """The bytes of these elements."""
    first: int
    """Index in the tensor of the element at which the range begins."""
    dtype: str
    """Dtype of these elements, which may differ from the base's."""
    is_delta: bool
    """True if the values count as they are; False for a model's own values, from which the base is subtracted."""


@dataclass(frozen=True, kw_only=True)
class AdapterOperand:
    """An adapter's change of one tensor, to be expanded rows by rows from its factors."""

    what: str
    """The adapter's name, for errors."""
    change: AdapterTensor
    """What the adapter does to the tensor."""


@dataclass(frozen=True, kw_only=True)
class EncodedOperand:
    """A delta's change of one tensor that is not stored element by element, to be expanded range by range."""

    how: Encoded
    """The encoding."""
    shape: tuple[int, ...]
    """Shape of the base's tensor."""
    parts: Mapping[str, Operand]
    """Where each stored part lies, whole."""


@dataclass(frozen=True, kw_only=True)
class CodedOperand:
    """Some consecutive numbers of one tensor of coded statistics, in whole blocks."""

    where: ByteRange
    """The bytes of these blocks."""
    first: int
    """Index in the tensor of the first number of the first block."""
    num_coded: int
    """Number of numbers in these blocks."""
    coding: Coding
    """How they are coded."""
    gram_size: int = 0
    """Number of rows of the Gram matrix that they are; 0 for other tensors."""


AnyOperand = Operand | AdapterOperand | EncodedOperand
"""Where a contribution's elements of a tensor come from."""


@dataclass(frozen=True)
class Operands:
    """One model's or one delta's tensors, and where they lie."""

    tensors: Mapping[str, Place]
    """The file that holds each tensor, and where it lies there."""
    is_delta: bool
    """True if the values count as they are; False for a model's own values, from which the base is subtracted."""
    encoded: Mapping[str, EncodedOperand] = field(default_factory=dict)
    """What is not stored element by element, by name."""
    coding: Coding | None = None
    """How the numbers are coded, of statistics that have travelled; None where they lie as they are."""
    is_gram: bool = False
    """True for Gram matrices."""

    def __contains__(self, name: str) -> bool:
        """Tell whether there is anything of a tensor."""
        return name in self.tensors or name in self.encoded


class Changing(Protocol):
    """What says of each tensor how it changes, such as an adapter."""

    @property
    def what(self) -> str:
        """Its name, for errors."""

    @property
    def tensors(self) -> Mapping[str, AdapterTensor]:
        """The tensors that it changes."""

    def __contains__(self, name: str) -> bool:
        """Tell whether it changes a tensor."""
        ...


def operands(files: Iterable[TensorFile], *, is_delta: bool) -> Operands:
    """Index the tensors of a model's or delta's files by name; `is_delta` as in `Operands`."""
    return Operands({entry.name: (file, entry) for file in files for entry in file.header.tensors}, is_delta)


def operand_of(stored: Stored) -> Operand:
    """Return a whole factor of an adapter as an operand, which ranges can be read of."""
    start, spec = stored.tensor.start, stored.tensor.spec
    return Operand(where=stored.file.range(start, spec.size_bytes), first=0, dtype=spec.dtype, is_delta=True)


def places_in_delta(file: TensorFile, name: str, how: Encoded, mask: TensorFile | None) -> dict[str, Place]:
    """Return where the parts lie of what a delta stores of a tensor, in its own file or in its mask's.

    Args:
        file: The delta.
        name: The base's name of the tensor.
        how: How it is stored.
        mask: The delta's mask, where it has one.
    """
    own = {part: (file, file.entry(part_name(name, part))) for part in how.parts}
    return own | {part: (mask, mask.entry(part_name(name, part))) for part in how.mask_parts if mask is not None}


def delta_operands(
    file: TensorFile,
    encoded: Mapping[str, Encoded],
    base: Schema,
    tied: Mapping[str, str],
    *,
    mask: TensorFile | None = None,
) -> Operands:
    """Return where a delta's tensors lie, those that are stored whole and those that are not.

    Args:
        file: The delta.
        encoded: How each of its tensors is stored, by the base's names.
        base: The base's tensors.
        tied: The tensor that each copy among them is a copy of: a copy's change is that tensor's, too.
        mask: The delta's mask, where it has one.
    """
    names = {name: name for name in encoded}
    dense: dict[str, Place] = {}
    others: dict[str, EncodedOperand] = {}
    for known, name in {**{tied[name]: name for name in names if name in tied}, **names}.items():
        places = places_in_delta(file, name, encoded[name], mask)
        if encoded[name] is DENSE:
            dense[known] = places[""]
        else:
            parts = {part: _whole(*place) for part, place in places.items()}
            others[known] = EncodedOperand(how=encoded[name], shape=base[name].shape, parts=parts)
    return Operands(dense, is_delta=True, encoded=others)


def _whole(file: TensorFile, entry: TensorEntry) -> Operand:
    return Operand(where=file.range(entry), first=0, dtype=entry.spec.dtype, is_delta=True)
