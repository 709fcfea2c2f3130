"""Checks: digests of every 64 KiB of a file in parts, so that any range of it can be verified as it is read.

A part is named by the SHA-256 of all its bytes, but a fusion reads ranges of parts, in several passes. So whoever reads
or makes a part whole also makes a list of checks, the first 16 bytes of the SHA-256 of each of its pieces of
`PIECE_BYTES`. One object a file holds them:

    checks/<root>       the SHA-256 of each part's list, in the order of the parts, and then the lists

`root` is the SHA-256 of that head, so that a name binds every byte of the file, and the list of one part can be read
and verified alone. A part of at most `PIECE_BYTES` has an empty list: it is verified by its own name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from coldfuse.core.blob import Blob
from coldfuse.core.serialization import sha256

PIECE_BYTES = 64 << 10
"""Size of what is verified at once: as little as is ever read of an object at once."""

CHECK_BYTES = 16
"""Size of a check: nobody finds other bytes with the same 128 bits."""

_HEAD_BYTES = 32
"""Size of the digest of a part's list."""


@dataclass(frozen=True)
class Checks:
    """Where the checks lie of a file's parts, or of some consecutive ones."""

    root: str
    """Name of the object that holds them."""
    num_parts: int
    """Number of parts of the whole file."""
    first: int = 0
    """Index in the file of the first of these parts."""
    start: int = 0
    """Byte in the object at which the list of the first of these parts begins."""

    @property
    def key(self) -> str:
        """The object's key."""
        return checks_key(self.root)

    @property
    def head_bytes(self) -> int:
        """Size of the object's head."""
        return self.num_parts * _HEAD_BYTES

    def range(self, first: int, start: int) -> Checks:
        """Return where the checks lie of the parts from one on, by its index and its list's start among these."""
        return Checks(self.root, self.num_parts, self.first + first, self.start + start)

    def is_head(self, head: bytes) -> bool:
        """Tell whether these bytes are the object's head."""
        return sha256(head) == self.root

    def is_list(self, head: bytes, index: int, found: bytes) -> bool:
        """Tell whether these bytes are the list of one of these parts, by its index among them."""
        at = (self.first + index) * _HEAD_BYTES
        return hashlib.sha256(found).digest() == head[at : at + _HEAD_BYTES]


def checks_of(file: Blob, root: str | None) -> Checks | None:
    """Return where the checks of a whole file lie, by their name; None without a name."""
    return Checks(root, len(file.parts), 0, len(file.parts) * _HEAD_BYTES) if root else None


def checks_key(root: str) -> str:
    """Return the key of the object that holds a file's checks."""
    return f"checks/{root}"


def list_bytes(part_bytes: int) -> int:
    """Return the size of the list of a part of this size.

    >>> list_bytes(65_536), list_bytes(65_537), list_bytes(16 << 20)
    (0, 32, 4096)
    """
    return -(-part_bytes // PIECE_BYTES) * CHECK_BYTES if part_bytes > PIECE_BYTES else 0


def list_starts(parts: Blob) -> list[int]:
    """Return where each part's list begins, counted from the first one's."""
    return list(accumulate((list_bytes(part.size_bytes) for part in parts.parts), initial=0))


def make_list(part: bytes | bytearray | memoryview) -> bytes:
    """Return the list of checks of a part."""
    view = memoryview(part)
    return checks_in(view) if len(view) > PIECE_BYTES else b""


def checks_in(pieces: memoryview) -> bytes:
    """Return the check of each of some pieces, of which only the last may be shorter than the others."""
    return b"".join(check_of(pieces[start : start + PIECE_BYTES]) for start in range(0, len(pieces), PIECE_BYTES))


def check_of(piece: memoryview) -> bytes:
    """Return the check of a piece of a part."""
    return hashlib.sha256(piece).digest()[:CHECK_BYTES]


def join_lists(lists: Sequence[bytes]) -> tuple[str, bytes] | None:
    """Return the name and the content of the object that holds a file's lists; None where all are empty."""
    if not any(lists):
        return None
    head = b"".join(hashlib.sha256(one).digest() for one in lists)
    return sha256(head), head + b"".join(lists)


def name_checks(lists: Sequence[bytes]) -> str | None:
    """Return the name of the object that would hold a file's lists; None where all are empty."""
    joined = join_lists(lists)
    return joined[0] if joined else None
