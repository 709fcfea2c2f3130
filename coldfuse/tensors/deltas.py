"""A contribution's delta: a safetensors file with one encoding a tensor, named in its metadata.

    metadata: {"format": "coldfuse-delta", "version": "1", "base": <model digest>, "encodings": '{"<tensor>":"dense"}'}

Dense: the tensor δ = θ_i − θ_t itself, in F32, BF16 or F16, in the shape that the base has. A tensor that is absent did
not change. Subtraction is done in float64 and rounded once to the encoding's dtype.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.blob import Blob, Part
from coldfuse.core.dtypes import Raw, from_floats
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.core.serialization import canonical_json, sha256, unique_names
from coldfuse.durable import writing_whole
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.header import Header, format_header, parse_header
from coldfuse.tensors.parts import Piece, plan_parts

Encoding = Literal["F32", "BF16", "F16"]
"""Dtype in which a delta is written."""

FORMAT = "coldfuse-delta"
VERSION = "1"

ReadPiece = Callable[[Piece], Raw]
"""read(piece): return the raw bytes of some elements of a tensor."""

ReadDelta = Callable[[str, int, int], NDArray[np.float64]]
"""read(name, first, count): return δ = θ_i − θ_t of some elements of a tensor, in their order."""

_COMPARED = 1 << 22
"""Number of elements of a tensor that are looked at together, to tell whether any of it changed."""


def delta_header(base: Schema, names: Iterable[str], *, encoding: Encoding, base_digest: str) -> bytes:
    """Return the first bytes of a dense delta: its header, after which the tensors follow in the order of their names.

    Args:
        base: Dtypes and shapes of the base's tensors.
        names: The tensors that the delta holds, in any order.
        encoding: Dtype of the delta's tensors.
        base_digest: The model digest of the base.
    """
    specs = [(name, TensorSpec(dtype=encoding, shape=base[name].shape)) for name in sorted(names)]
    encodings = canonical_json({name: "dense" for name, _ in specs}).decode()
    metadata = {"format": FORMAT, "version": VERSION, "base": base_digest, "encodings": encodings}
    return format_header(specs, metadata)


def write_delta(
    path: Path, base: Schema, names: Iterable[str], read: ReadDelta, *, encoding: Encoding, base_digest: str
) -> Blob:
    """Write a dense delta to a file, and return its parts. A tensor that did not change is left out.

    Args:
        path: The file to write; it is there whole or not at all.
        base: The base's schema.
        names: Tensors that may have changed; integers among them are no weights, and stay out.
        read: Returns the delta's elements; it is asked for all of them twice.
        encoding: Dtype to which they are rounded, once.
        base_digest: Model digest of the base, which the delta names.
    """
    changed = [name for name in names if base[name].is_fused and has_changed(name, base[name].num_elements, read)]
    header = delta_header(base, changed, encoding=encoding, base_digest=base_digest)

    def read_piece(piece: Piece) -> Raw:
        return from_floats(read(piece.tensor.name, piece.first, piece.num_elements), encoding)

    return write_safetensors(path, header, read_piece)


def has_changed(name: str, num_elements: int, read: ReadDelta) -> bool:
    """Tell whether any element of a tensor's delta is not zero."""
    return any(
        read(name, first, min(_COMPARED, num_elements - first)).any() for first in range(0, num_elements, _COMPARED)
    )


def write_safetensors(path: Path, header_bytes: bytes, read: ReadPiece) -> Blob:
    """Write a file part by part; it is there whole or not at all.

    Args:
        path: The file to create.
        header_bytes: The file's first bytes.
        read: Returns the elements of a piece; called once for each, in the order of the file.

    Returns:
        The file's parts, as an upload of it will cut it.
    """
    header = parse_header(header_bytes[8:], what=str(path))  # after 8 bytes of its length
    parts: list[Part] = []
    with writing_whole(path) as file:
        for layout in plan_parts(header):
            data = b"".join([read(piece).tobytes() for piece in layout.pieces]) if layout.pieces else header_bytes
            file.write(data)
            parts.append(Part(digest=sha256(data), size_bytes=len(data)))
    return Blob(parts=tuple(parts))


def check_delta(header: Header, base: Schema, *, base_digest: str, what: str) -> None:
    """Check a delta's metadata and tensors against the base.

    Args:
        header: The delta's header.
        base: Dtypes and shapes of the base's tensors.
        base_digest: The model digest of the base.
        what: The delta's name, for errors.

    Raises:
        CodecError: This is no delta, or one of another version.
        SchemaMismatchError: It was made from another base, or a tensor does not fit.
    """
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        raise CodecError(f"{what}: not a coldfuse delta (metadata format is {metadata.get('format')!r})")
    if metadata.get("version") != VERSION:
        raise CodecError(
            f"{what}: delta version {metadata.get('version')!r}, this coldfuse knows {VERSION}; upgrade it"
        )
    if metadata.get("base") != base_digest:
        raise SchemaMismatchError(f"{what}: made from base {metadata.get('base')}, expected {base_digest}")
    for name, problem in _problems(header, base):
        raise SchemaMismatchError(f"{what}: tensor {name[:200]!r}: {problem}")


def _problems(header: Header, base: Schema) -> Iterator[tuple[str, str]]:
    encodings = _encodings(header)
    for name, spec in header.schema.items():
        want = base.get(name)
        if want is None:
            yield name, "the base has no such tensor; send the shared body only"
        elif not want.is_fused:
            yield name, f"dtype {want.dtype} is never fused and must not be in a delta"
        elif spec.shape != want.shape:
            yield name, f"shape {list(spec.shape)}, base has {list(want.shape)}; fetch this round's base"
        elif spec.dtype not in ("F32", "BF16", "F16") or encodings.get(name) != "dense":
            yield name, f"encoding {encodings.get(name)!r} of {spec.dtype}, expected dense F32, BF16 or F16"


def _encodings(header: Header) -> dict[str, str]:
    try:
        encodings = json.loads(header.metadata.get("encodings", ""), object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        raise CodecError("delta metadata: encodings is not JSON, or names a tensor twice") from error
    if not isinstance(encodings, dict):
        raise CodecError("delta metadata: encodings must map each tensor to its encoding")
    return encodings
