"""A contribution's delta: a safetensors file with one encoding a tensor, named in its metadata.

    metadata: {"format": "coldfuse-delta", "version": "1", "base": <model digest>, "encodings": '{"<tensor>":"dense"}'}

Dense: the tensor δ = θ_i − θ_t itself, in F32, BF16 or F16, in the shape that the base has. A tensor that is absent did
not change. Subtraction is done in float64 and rounded once to the encoding's dtype. A file with any other encoding is
of version 2, which older versions of coldfuse refuse by name; `encodings` lists them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.blob import Blob, Part
from coldfuse.core.dtypes import Floats, Raw, from_floats
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.core.serialization import canonical_json, sha256, unique_names
from coldfuse.durable import writing_whole
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.encodings import DENSE, ENCODINGS, Encoded, Encoding
from coldfuse.tensors.header import Header, format_header, parse_header
from coldfuse.tensors.parts import Piece, plan_parts
from coldfuse.tensors.said_encodings import parse_encoding
from coldfuse.tensors.sparse_encodings import Masked

FORMAT = "coldfuse-delta"
VERSION = "1"
"""Version of a file that is dense."""

ENCODED_VERSION = "2"
"""Version of a file with other encodings."""

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
    return encoded_header(base, dict.fromkeys(names, DENSE), encoding=encoding, base_digest=base_digest)


def encoded_header(
    base: Schema,
    encoded: Mapping[str, Encoded],
    *,
    encoding: Encoding,
    base_digest: str,
    mask_digest: str | None = None,
) -> bytes:
    """Return the first bytes of a delta: its header, after which what is stored follows in the order of its names.

    Args:
        base: Dtypes and shapes of the base's tensors.
        encoded: How each tensor that the delta holds is stored.
        encoding: Dtype of the delta's numbers.
        base_digest: The model digest of the base.
        mask_digest: Digest of the mask, where something is masked.
    """
    specs = {
        stored: spec for name, how in encoded.items() for stored, spec in how.stored(name, base[name], encoding).items()
    }
    metadata = {
        "format": FORMAT,
        "version": VERSION if all(how is DENSE for how in encoded.values()) else ENCODED_VERSION,
        "base": base_digest,
        "encodings": canonical_json({name: how.said() for name, how in encoded.items()}).decode(),
    }
    if mask_digest is not None:
        metadata["mask"] = mask_digest
    return format_header(sorted(specs.items()), metadata)


def has_changed(read: Callable[[int, int], Floats], num_elements: int) -> bool:
    """Tell whether a change, asked for by first element and number, is anywhere not 0."""
    return any(read(first, min(_COMPARED, num_elements - first)).any() for first in range(0, num_elements, _COMPARED))


def write_numbers(path: Path, header_bytes: bytes, read: Callable[[str, int, int], Floats | Raw]) -> Blob:
    """Write a file part by part, rounding each float once to its tensor's dtype; bytes are written as they are.

    Args:
        path: The file to write; it is there whole or not at all.
        header_bytes: The file's first bytes.
        read: Returns elements of a stored tensor.
    """

    def read_piece(piece: Piece) -> Raw:
        found = read(piece.tensor.name, piece.first, piece.num_elements)
        if piece.tensor.spec.dtype == "U8":
            return found.view(np.uint8)
        return from_floats(cast(Floats, found), piece.tensor.spec.dtype)

    return write_safetensors(path, header_bytes, read_piece)


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


def mask_of(header: Header) -> str | None:
    """Return the digest of the mask that a delta's values are at; None where it needs none.

    Raises:
        CodecError: What it names is no digest.
    """
    digest = header.metadata.get("mask")
    if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
        raise CodecError(f"delta metadata: expected the digest of a mask, got {digest[:80]!r}")
    return digest


def mask_name(digest: str) -> str:
    """Return the name that a mask's file has beside deltas that use it."""
    return f"mask-{digest[:16]}.safetensors"


def check_delta(
    header: Header, base: Schema, *, base_digest: str, what: str, mask: Header | None = None
) -> dict[str, Encoded]:
    """Check a delta's metadata and tensors against the base; nothing but its header is looked at.

    Args:
        header: The delta's header.
        base: Dtypes and shapes of the base's tensors.
        base_digest: The model digest of the base.
        what: The delta's name, for errors.
        mask: The header of the mask that the delta names, where it names one; that it is this one, the caller knows.

    Returns:
        How each tensor that it holds is stored, by the base's names.

    Raises:
        CodecError: This is no delta, or one of another version.
        SchemaMismatchError: It was made from another base, or a tensor does not fit.
    """
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        raise CodecError(f"{what}: not a coldfuse delta (metadata format is {metadata.get('format')!r})")
    if metadata.get("version") not in (VERSION, ENCODED_VERSION):
        raise CodecError(
            f"{what}: delta version {metadata.get('version')!r}, this coldfuse knows {VERSION} and {ENCODED_VERSION}; "
            "upgrade it"
        )
    if metadata.get("base") != base_digest:
        raise SchemaMismatchError(f"{what}: made from base {metadata.get('base')}, expected {base_digest}")
    encodings = _encodings(header)
    if metadata.get("version") == VERSION:
        for name, spec in header.schema.items():
            _check_dense(name, spec, encodings.get(name), base, what)
        return dict.fromkeys(header.schema, DENSE)
    return _check_encoded(header, encodings, base, mask, what=what)


def _check_dense(name: str, spec: TensorSpec, encoding: object, base: Schema, what: str) -> None:
    problem = _base_problem(name, base)
    if problem is None and spec.shape != base[name].shape:
        problem = f"shape {list(spec.shape)}, base has {list(base[name].shape)}; fetch this round's base"
    if problem is None and (spec.dtype not in ENCODINGS or encoding != DENSE.kind):
        problem = f"encoding {repr(encoding)[:100]} of {spec.dtype}, expected dense F32, BF16 or F16"
    if problem is not None:
        raise SchemaMismatchError(f"{what}: tensor {name[:200]!r}: {problem}")


def _check_encoded(
    header: Header, said: Mapping[str, object], base: Schema, mask: Header | None, *, what: str
) -> dict[str, Encoded]:
    """Check that a file stores exactly what its encodings ask for, and nothing under a name of the base's."""
    schema = header.schema
    encoded: dict[str, Encoded] = {}
    wanted: dict[str, TensorSpec] = {}
    dtype = next((spec.dtype for spec in schema.values() if spec.dtype in ENCODINGS), "F32")
    for name, encoding in said.items():
        how = parse_encoding(name, encoding)
        problem = _base_problem(name, base) or how.problem(base[name]) or _mask_problem(name, how, base, mask)
        if problem is not None:
            raise SchemaMismatchError(f"{what}: tensor {name[:200]!r}: {problem}")
        for stored, spec in how.stored(name, base[name], dtype).items():
            if stored in wanted or (stored != name and stored in base):
                raise SchemaMismatchError(f"{what}: tensor {stored[:200]!r} would be two things; send it dense")
            wanted[stored] = spec
        encoded[name] = how
    for stored in sorted(schema.keys() | wanted.keys()):
        if schema.get(stored) != wanted.get(stored):
            raise SchemaMismatchError(
                f"{what}: tensor {stored[:200]!r}: {_said(schema.get(stored))}, by its encodings it has to be "
                f"{_said(wanted.get(stored))}; upload it with coldfuse"
            )
    return encoded


def _mask_problem(name: str, how: Encoded, base: Schema, mask: Header | None) -> str | None:
    if not isinstance(how, Masked):
        return None
    if mask is None:
        return "its elements are those of a mask, which is not here; send it with the mask"
    there = mask.schema
    for stored, spec in how.in_mask(name, base[name]).items():
        if there.get(stored) != spec:
            return f"its mask has {_said(there.get(stored))} for it, expected {_said(spec)}; send a mask of this base"
    return None


def _said(spec: TensorSpec | None) -> str:
    return "not there" if spec is None else f"{spec.dtype} of shape {list(spec.shape)}"


def _base_problem(name: str, base: Schema) -> str | None:
    want = base.get(name)
    if want is None:
        return "the base has no such tensor; send the shared body only"
    return None if want.is_fused else f"dtype {want.dtype} is never fused and must not be in a delta"


def _encodings(header: Header) -> dict[str, object]:
    try:
        encodings = json.loads(header.metadata.get("encodings", ""), object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        raise CodecError("delta metadata: encodings is not JSON, or names a tensor twice") from error
    if not isinstance(encodings, dict):
        raise CodecError("delta metadata: encodings must map each tensor to its encoding")
    return encodings
