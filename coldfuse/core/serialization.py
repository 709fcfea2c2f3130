"""Values to canonical JSON and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from coldfuse.core.blob import Blob
from coldfuse.core.value import Value
from coldfuse.core.words import printable
from coldfuse.errors import CodecError, DigestMismatchError

MAX_MANIFEST_BYTES = 8 << 20
"""Size above which JSON is refused before it is parsed: 4096 parts take about 0.4 MB."""

V = TypeVar("V", bound=Value)
T = TypeVar("T")


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Return the digest that names these bytes."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: object) -> bytes:
    """Sorted keys, no spaces, UTF-8, no NaN: equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def unique_names(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Make an object of its pairs, as `json.loads(…, object_pairs_hook=unique_names)` asks.

    JSON leaves open what two values of one name mean, so neither is taken.

    >>> json.loads('{"a": 1, "a": 2}', object_pairs_hook=unique_names)
    Traceback (most recent call last):
    ValueError: 'a' is said twice

    Raises:
        ValueError: A name is there twice.
    """
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:100]!r} is said twice")
        found[name] = value
    return found


def encode(value: Value) -> bytes:
    """Return the value's canonical JSON."""
    return canonical_json(value.model_dump(mode="json"))


def decode(kind: type[V], data: bytes, *, what: str, digest: str | None = None, limit: int = MAX_MANIFEST_BYTES) -> V:
    """Parse and validate JSON from outside: a number is a number, no text, no 5.0 for 5 and no `true` for 1.

    Args:
        kind: The class of the value.
        data: The JSON.
        what: What the errors call it.
        digest: SHA-256 that the bytes must have, checked first; None where nobody has named them.
        limit: Number of bytes above which nothing is parsed.

    Raises:
        CodecError: It is too long, no JSON, or no such value, or says something twice.
        DigestMismatchError: The bytes are others than those that were named.
    """
    require_bytes(data, what, digest, limit=limit)
    try:
        value = kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise CodecError(f"{what}: {_explain(error)}") from error
    _require_unique(data, what)
    return value


def decode_any(adapter: TypeAdapter[T], data: bytes, *, what: str) -> T:
    """Like `decode`, for a union of values."""
    require_bytes(data, what)
    try:
        value = adapter.validate_json(data, strict=True)
    except ValidationError as error:
        raise CodecError(f"{what}: {_explain(error)}") from error
    _require_unique(data, what)
    return value


def blob_digest(blob: Blob) -> str:
    """Return the digest of a file: the SHA-256 of its list of parts."""
    return sha256(canonical_json([[part.digest, part.size_bytes] for part in blob.parts]))


def require_bytes(data: bytes, what: str, digest: str | None = None, *, limit: int = MAX_MANIFEST_BYTES) -> None:
    """Make sure of JSON from outside before it is parsed.

    Raises:
        CodecError: It is too long.
        DigestMismatchError: The bytes are others than those that were named.
    """
    if len(data) > limit:
        raise CodecError(f"{what}: {len(data):,} bytes, at most {limit:,} are taken")
    if digest is not None and sha256(data) != digest:
        raise DigestMismatchError(f"{what}: SHA-256 is {sha256(data)}, expected {digest}; the object was altered")


def _require_unique(data: bytes, what: str) -> None:
    """Refuse a name that is said twice, and NaN; the parser before has bounded how deep objects lie in each other."""
    try:
        json.loads(data, object_pairs_hook=unique_names, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{what}: {_short(str(error))}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _explain(error: ValidationError) -> str:
    """Say the first thing that is wrong, in one line, without echoing what came at length."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"]) or "document"
    return f"{_short(place)}: {_short(first['msg'])}, got {str(first['input'])[:80]!r}"


def _short(text: str) -> str:
    """Keys and tags stand in it as they came: bound them, and keep what is not printable from the reader."""
    return printable(text[:200])
