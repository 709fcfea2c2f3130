"""One name for a model's tensors, whatever the sharding, the order in the files or the metadata beside them.

digest = SHA-256 of the canonical JSON of [[name, dtype, shape, [SHA-256 of each 16 MiB block of its bytes]], …], sorted
by name. Blocks let many machines hash one large tensor, and let a fused part's digests be computed where it is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from coldfuse.core.blob import MIN_PART_BYTES
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import canonical_json, sha256

BLOCK_BYTES = MIN_PART_BYTES
"""Parts are multiples of it, so a block never spans two parts."""


def block_digests(data: bytes | memoryview) -> list[str]:
    """Return the digests of a tensor's bytes, or of a piece of it that begins at a multiple of a block."""
    view = memoryview(data)
    return [hashlib.sha256(view[i : i + BLOCK_BYTES]).hexdigest() for i in range(0, len(view), BLOCK_BYTES)]


def model_digest(schema: Schema, blocks: Mapping[str, Sequence[str]]) -> str:
    """Return the digest of a model with this schema, from each tensor's block digests (none for an empty tensor)."""
    rows = [[name, schema[name].dtype, list(schema[name].shape), list(blocks[name])] for name in sorted(schema)]
    return sha256(canonical_json(rows))
