"""A file as a list of immutable parts, each an object named by its SHA-256.

Parts are what makes everything else simple: an upload resumes by asking which parts are missing, a download verifies
and resumes part by part, an unchanged part of a model is stored and sent once, one Ray task writes one part of the
fused model, and no file, tensor or user meets a size limit.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coldfuse.core.value import Digest, Value

MIN_PART_BYTES = 16 << 20
"""Size of a small file's parts: sent again over a slow link in no time, yet 140 GB stay a list one can hold."""

MAX_PARTS = 4096
"""Number of parts beyond which they grow instead, so that a manifest stays below a megabyte."""


class Part(Value):
    """One immutable object `objects/<digest>`."""

    digest: Digest
    """SHA-256 of its bytes."""
    size_bytes: Annotated[int, Field(ge=0, lt=2**63)]


class Blob(Value):
    """The parts of a file, in order."""

    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return sum(part.size_bytes for part in self.parts)


def part_bytes(file_bytes: int) -> int:
    """Return the size at which a file of this size is cut: 16 MiB times a power of two, at most about 4096 parts.

    >>> part_bytes(90_000_000) >> 20, part_bytes(140_000_000_000) >> 20
    (16, 64)
    """
    size = MIN_PART_BYTES
    while size * MAX_PARTS < file_bytes:
        size *= 2
    return size
