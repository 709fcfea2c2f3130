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

from coldfuse.core.blob import Blob, Part
from coldfuse.core.dtypes import Floats, Raw, from_floats, to_floats
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.core.serialization import canonical_json, sha256
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


def subtract(finetuned: Floats, base: Raw, *, dtype: str, encoding: Encoding) -> Raw:
    """Return δ = θ_i − θ_t, rounded once.

    Args:
        finetuned: Elements of the fine-tuned model.
        base: The raw bytes of the base's same elements.
        dtype: Dtype of the base's elements.
        encoding: Dtype of the result.
    """
    return from_floats(finetuned.astype(np.float64) - to_floats(base, dtype), encoding)


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
        encodings = json.loads(header.metadata.get("encodings", ""))
    except (ValueError, RecursionError) as error:
        raise CodecError("delta metadata: encodings is not JSON") from error
    if not isinstance(encodings, dict):
        raise CodecError("delta metadata: encodings must map each tensor to its encoding")
    return encodings
