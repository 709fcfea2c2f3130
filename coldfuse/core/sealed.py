"""Values that lie under a name of their own, such as pointers, entries of a journal and a node's notes, with a seal.

An object named by its SHA-256 tells by its name whether it is what it was. A pointer cannot: a bit that flips in it
would move it, unnoticed. So it carries its own digest, as one more field, which older versions read over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from coldfuse.core.serialization import MAX_MANIFEST_BYTES, V, canonical_json, decode, sha256, unique_names
from coldfuse.core.value import Value
from coldfuse.errors import CodecError

FIELD = "seal"
"""Name of the field."""

_SEAL_CHARS = 32
"""Length of a seal: 128 bits."""

T = TypeVar("T")


def seal(value: Value) -> bytes:
    """Return a value's canonical JSON with its seal.

    >>> from coldfuse.core.blob import Part
    >>> unseal(Part, seal(Part(digest="0" * 64, size_bytes=1)), what="a part").size_bytes
    1
    """
    fields = value.model_dump(mode="json")
    return canonical_json(fields | {FIELD: _seal_of(fields)})


def unseal(kind: type[V], data: bytes, *, what: str, limit: int = MAX_MANIFEST_BYTES) -> V:
    """Return a value from what `seal` made of it, or an older version, which made no seals.

    Args:
        kind: The class of the value.
        data: What `seal` made of it.
        what: What the errors call it.
        limit: Number of bytes above which nothing is parsed.

    Raises:
        CodecError: It is no such value, or not the one that was sealed.
    """
    return unsealed(data, lambda: decode(kind, data, what=what, limit=limit), what=what)


def has_seal(data: bytes) -> bool:
    """Tell whether some JSON carries a seal, right or wrong: older versions made none."""
    try:
        fields = json.loads(data, object_pairs_hook=unique_names)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and FIELD in fields


def unsealed(data: bytes, read: Callable[[], T], *, what: str) -> T:
    """Return what `read` makes of some JSON, if its seal is right.

    Raises:
        CodecError: As `read` does, or the seal is not that of the JSON.
    """
    value = read()
    try:
        fields = json.loads(data, object_pairs_hook=unique_names)
        found = fields.pop(FIELD, None)
        is_altered = found is not None and found != _seal_of(fields)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{what}: no JSON that coldfuse writes: {str(error)[:80]}") from error
    if is_altered:
        raise CodecError(f"{what}: its seal is not that of what it says; it was altered")
    return value


def _seal_of(fields: dict[str, object]) -> str:
    return sha256(canonical_json(fields))[:_SEAL_CHARS]
