"""The safetensors header, parsed as strictly as the format is defined, and written canonically.

Format: 8 bytes little-endian N, N bytes of JSON {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__":
{str: str}}, then the tensors' bytes without gaps (https://github.com/huggingface/safetensors, "Format"). The library
reads local files only; coldfuse reads ranges of files that lie anywhere, so it parses the header itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pydantic import ValidationError

from coldfuse.core.schema import DTYPES, Schema, TensorSpec, is_whole_bytes
from coldfuse.core.serialization import unique_names
from coldfuse.errors import CodecError
from coldfuse.tensors.blobs import ReadRange

MAX_HEADER_BYTES = 100_000_000
"""Size of the longest header that is read: the limit of the safetensors library."""

_MAX_NAME_CHARS = 2048
"""Maximum length of a tensor's name: names are taken apart, and a file could hold one of 100 MB."""

_LENGTH_BYTES = 8
"""Number of bytes that say how long the header is."""


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tensor of a file."""

    name: str
    spec: TensorSpec
    start: int
    """Byte in the file at which the tensor's data begin."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where each tensor of a safetensors file lies."""

    size_bytes: int
    """Number of bytes before the first tensor's data."""
    tensors: tuple[TensorEntry, ...]
    """All tensors, in the order of their data."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the file's writer says of the whole file."""

    @property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return self.size_bytes + sum(entry.spec.size_bytes for entry in self.tensors)

    @property
    def schema(self) -> Schema:
        """The tensors' dtypes and shapes by name."""
        return {entry.name: entry.spec for entry in self.tensors}

    def within(self, folder: str) -> Header:
        """Return the header of a file that lies in a folder of the model's, which then is a part of the names."""
        if not folder:
            return self
        return replace(self, tensors=tuple(replace(entry, name=folder + entry.name) for entry in self.tensors))

    def without(self, folder: str) -> Header:
        """Undo `within`."""
        tensors = tuple(replace(entry, name=entry.name.removeprefix(folder)) for entry in self.tensors)
        return replace(self, tensors=tensors) if folder else self


def read_header(read: ReadRange, *, file_bytes: int, what: str, limit: int = MAX_HEADER_BYTES) -> Header:
    """Read a file's header. Nothing is read before its length is bounded.

    Args:
        read: Reads ranges of the file.
        file_bytes: Size of the file, which the header must describe to the byte.
        what: The file's name, for errors.
        limit: Size of the longest header that is read.

    Raises:
        CodecError: The file is no safetensors file, or cut off, or its header is longer than the limit.
    """
    if file_bytes < _LENGTH_BYTES:
        raise CodecError(f"{what}: {file_bytes} bytes are too few for a safetensors file")
    length = int.from_bytes(_read(read, 0, _LENGTH_BYTES), "little")
    if length > min(limit, file_bytes - _LENGTH_BYTES):
        raise CodecError(f"{what}: not a safetensors file, or cut off: its header claims {length:,} bytes")
    header = parse_header(_read(read, _LENGTH_BYTES, length), what=what)
    if header.file_bytes != file_bytes:
        hint = "; it is cut short: copy or fetch it anew" if file_bytes < header.file_bytes else ""
        raise CodecError(f"{what}: the header describes {header.file_bytes:,} bytes, the file has {file_bytes:,}{hint}")
    return header


def parse_header(data: bytes, *, what: str) -> Header:
    """Parse the JSON of a header: known dtypes, sizes that fit, and no gap or overlap between tensors.

    Args:
        data: The header after the 8 bytes of its length.
        what: The file's name, for errors.

    Raises:
        CodecError: The header is malformed.
    """
    try:
        document = json.loads(_text(data), object_pairs_hook=unique_names, parse_constant=_no_number)
        metadata = _parse_metadata(document.pop("__metadata__", None))
        found = [_parse_entry(name, value, what) for name, value in document.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CodecError(f"{what}: malformed safetensors header: {str(error)[:200]}") from error
    found.sort(key=lambda item: (item[1], item[2], item[0]))  # by begin and end: an empty tensor shares its begin
    if any(left[2] != right[1] for left, right in pairwise(found)) or (found and found[0][1] != 0):
        raise CodecError(f"{what}: tensors overlap or leave gaps")
    size = _LENGTH_BYTES + len(data)
    tensors = tuple(TensorEntry(name=name, spec=spec, start=size + begin) for name, begin, _, spec in found)
    return Header(size_bytes=size, tensors=tensors, metadata=metadata)


def format_header(schema: Iterable[tuple[str, TensorSpec]], metadata: Mapping[str, str]) -> bytes:
    """Return a file's first bytes, length and all.

    They are padded to a multiple of 8 bytes, as the safetensors library pads them, so that tensors lie aligned.

    Args:
        schema: Names, dtypes and shapes of the tensors, in the order in which their data will follow.
        metadata: What to say of the whole file.
    """
    document: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, spec in schema:
        end = offset + spec.size_bytes
        document[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    data = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    data += b" " * (-len(data) % 8)
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def _text(data: bytes) -> str:
    """Decode a header; `json` alone would also take UTF-16, which the library cannot load."""
    text = data.decode("utf-8")
    if not text.startswith("{"):
        raise ValueError("expected it to begin with {")
    return text


def _parse_metadata(value: object) -> dict[str, str]:
    if value is None:  # as some writers say that there is none
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("__metadata__ must map strings to strings")
    for text in (*value.keys(), *value.values()):
        text.encode()  # half a surrogate pair is no text
    return value


def _parse_entry(name: str, value: dict[str, object], what: str) -> tuple[str, int, int, TensorSpec]:
    name.encode()  # nor here: it could neither be hashed nor reported
    if len(name) > _MAX_NAME_CHARS:
        raise ValueError(f"{name[:40]!r}… is a name of {len(name):,} characters")
    if not {"dtype", "shape", "data_offsets"} <= set(value):  # what else is said of a tensor, the library ignores
        raise ValueError(f"{name!r}: expected dtype, shape and data_offsets, got {sorted(value)}")
    dtype, shape = value["dtype"], value["shape"]
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise CodecError(
            f"{what}: tensor {name[:200]!r} has the dtype {dtype[:40]!r}, which this coldfuse does not know; known are "
            f"{', '.join(sorted(DTYPES))}; take a newer coldfuse, or convert the tensor to one of these"
        )
    try:
        spec = TensorSpec.model_validate({"dtype": dtype, "shape": shape})
    except ValidationError as error:
        raise ValueError(f"{name!r}: shape {shape!r} of {dtype!r} is not a list of sizes") from error
    if math.prod(size for size in spec.shape if size) >= 2**60 or not is_whole_bytes(spec.dtype, spec.num_elements):
        raise ValueError(f"{name!r}: {list(spec.shape)} elements of {spec.dtype} are no bytes that a file can have")
    match value["data_offsets"]:
        case [bool(), _] | [_, bool()]:
            pass  # Python counts with them, JSON does not
        case [int() as begin, int() as end] if 0 <= begin <= end and end - begin == spec.size_bytes:
            return name, begin, end, spec
    raise ValueError(f"{name!r}: data_offsets {value['data_offsets']!r} do not fit {spec.size_bytes} bytes")


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _read(read: ReadRange, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    read(memoryview(buffer), start)
    return bytes(buffer)
