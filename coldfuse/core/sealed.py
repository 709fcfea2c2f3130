"""Values that lie on a disk for long and that nobody else names: each carries the SHA-256 of what it says.

The seal is one more field of the JSON, so that an older version reads what a newer one wrote, and the other way round.
"""

from __future__ import annotations

import json

from coldfuse.core.serialization import V, canonical_json, decode, sha256
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, DigestMismatchError

_SEAL = "sha256"


def seal(value: Value) -> bytes:
    """Return the value's canonical JSON with its own digest in it."""
    document = value.model_dump(mode="json")
    return canonical_json(document | {_SEAL: sha256(canonical_json(document))})


def unseal(kind: type[V], data: bytes, *, what: str) -> V:
    """Parse and validate what `seal` made; what an older version wrote has no seal, and is taken as it is.

    Args:
        kind: The class of the value.
        data: The JSON.
        what: What the errors call it.

    Raises:
        CodecError: It is too long, no JSON, or no such value.
        DigestMismatchError: It was altered.
    """
    value = decode(kind, data, what=what)
    try:
        document = json.loads(data)
        sealed = document.pop(_SEAL, None)
        found = sha256(canonical_json(document))
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{what}: no JSON that coldfuse writes: {str(error)[:80]}") from error
    if sealed is not None and sealed != found:
        raise DigestMismatchError(f"{what}: it was altered, its SHA-256 is not the one that it says")
    return value
