"""A mask: the elements that change, fixed over many contributions, in a file of its own that is sent once.

    metadata: {"format": "coldfuse-mask", "version": "1", "counts": '{"<tensor>":<K>}'}

For each tensor of the base it holds "<tensor>|indices", the code (`index_codes`) of K elements. A mask is named by the
digest of its parts. A delta that uses it names it in its metadata, and its manifest says where its parts lie: who has
sent them once, sends values alone from then on. FISH (arXiv 2111.09839) fixes such a mask over rounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.blob import Blob
from coldfuse.core.dtypes import Raw
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.core.serialization import blob_digest, canonical_json, unique_names
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.contents import parts_of
from coldfuse.tensors.deltas import write_safetensors
from coldfuse.tensors.encodings import part_name
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import Header, format_header
from coldfuse.tensors.index_codes import BLOCK, Bytes, IndexCode
from coldfuse.tensors.parts import Piece
from coldfuse.tensors.sparse_encodings import Masked
from coldfuse.tensors.tensor_file import TensorFile, open_tensors
from coldfuse.tensors.tensor_reader import TensorReader

FORMAT = "coldfuse-mask"
VERSION = "1"

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Mask:
    """A mask in a file."""

    file: TensorFile
    blob: Blob
    """The file's parts."""
    counts: Mapping[str, int]
    """Number of elements that change in each tensor."""

    @property
    def digest(self) -> str:
        """Digest of the file's parts, by which deltas name it."""
        return blob_digest(self.blob)


def write_mask(path: Path, base: Schema, indices: Mapping[str, Indices]) -> Blob:
    """Write a mask, and return its parts.

    Args:
        path: The file to write, whole or not at all.
        base: Dtypes and shapes of the base's tensors.
        indices: Sorted, distinct indices of the elements that change, by tensor; a tensor without any is left out. They
            are asked for twice, and let go of.

    Raises:
        SchemaMismatchError: There is no such element.
    """
    counts: dict[str, int] = {}
    for name in sorted(indices):
        found = indices[name]
        check_indices(name, found, base[name].num_elements)
        counts |= {name: len(found)} if len(found) else {}
    specs = [spec for name, count in counts.items() for spec in Masked(count).in_mask(name, base[name]).items()]
    metadata = {"format": FORMAT, "version": VERSION, "counts": canonical_json(counts).decode()}

    def read(piece: Piece) -> Raw:
        name = piece.tensor.name.removesuffix(part_name("", "indices"))
        code = IndexCode(base[name].num_elements, counts[name]).encode(indices[name])
        return code[piece.first : piece.first + piece.num_elements]

    return write_safetensors(path, format_header(sorted(specs), metadata), read)


def check_indices(name: str, indices: Indices, num_elements: int) -> None:
    """Raise `SchemaMismatchError` unless indices are strictly ascending and inside their tensor."""
    if indices.ndim != 1 or (np.diff(indices) <= 0).any():
        raise SchemaMismatchError(f"tensor {name}: expected one list of strictly ascending indices")
    if indices.size and not 0 <= indices[0] <= indices[-1] < num_elements:
        raise SchemaMismatchError(
            f"tensor {name}: indices {indices[0]} to {indices[-1]}, the tensor has {num_elements:,} elements"
        )


def open_mask(path: Path) -> Mask:
    """Open a mask in a file on this machine.

    Raises:
        CodecError: It is none.
        UserInputError: It cannot be read.
    """
    file = open_tensors(LocalFile(path))
    return Mask(file, parts_of(file), counts_of(file.header, what=str(path)))


def counts_of(header: Header, *, what: str) -> dict[str, int]:
    """Return how many elements of each tensor a mask says that change.

    Raises:
        CodecError: The file is no mask, or one of another version.
    """
    metadata = header.metadata
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise CodecError(
            f"{what}: expected a {FORMAT} of version {VERSION}, got {str(metadata.get('format'))[:40]!r} of version "
            f"{str(metadata.get('version'))[:40]!r}"
        )
    try:
        counts = json.loads(metadata.get("counts", ""), object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{what}: counts is not JSON, or names a tensor twice") from error
    if not isinstance(counts, dict) or not all(type(count) is int and count > 0 for count in counts.values()):
        raise CodecError(f"{what}: counts must say of each tensor how many elements change")
    return counts


def check_mask(header: Header, base: Schema, *, what: str) -> None:
    """Check that a mask holds what it says of tensors of the base, and nothing else: so its size is bounded by theirs.

    Args:
        header: The mask's header.
        base: Dtypes and shapes of the base's tensors.
        what: The mask's name, for errors.

    Raises:
        CodecError: The file is no mask, or one of another version.
        SchemaMismatchError: It is none of this base, or holds something else.
    """
    wanted: dict[str, TensorSpec] = {}
    for name, count in counts_of(header, what=what).items():
        if name not in base or count > base[name].num_elements:
            raise SchemaMismatchError(
                f"{what}: tensor {name[:200]!r}: the base has none with so many elements; send a mask of this base"
            )
        wanted |= Masked(count).in_mask(name, base[name])
    there = header.schema
    for stored in sorted(there.keys() | wanted.keys()):
        if there.get(stored) != wanted.get(stored):
            raise SchemaMismatchError(
                f"{what}: tensor {stored[:200]!r} is not what its counts ask for; make the mask with coldfuse"
            )


def read_indices(mask: Mask, name: str, num_elements: int) -> Indices:
    """Return the elements of a tensor that a mask says that change.

    Raises:
        CodecError: The mask is malformed.
    """
    with TensorReader([mask.file]) as reader:

        def read(first: int, count: int) -> Bytes:
            return reader.raw(part_name(name, "indices"), first, count)

        code = IndexCode(num_elements, mask.counts[name])
        runs = range(0, num_elements, BLOCK)
        found = [code.decode(read, first, min(BLOCK, num_elements - first))[1] for first in runs]
        return np.concatenate(found)
