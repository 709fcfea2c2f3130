"""A file that lies as parts in an object store: reading any range of it, and writing it part by part."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

from coldfuse.core.blob import Blob, Part
from coldfuse.core.serialization import sha256
from coldfuse.errors import CodecError

ReadObject = Callable[[str, memoryview, int], None]
"""read(digest, buffer, start): fill the buffer with bytes from `start` of the object `digest`."""

ReadRange = Callable[[memoryview, int], None]
"""read(buffer, start): fill the buffer with bytes from `start` of a file, wherever it lies."""

PutObject = Callable[[str, bytes | memoryview], object]
"""put(digest, data): store an object under its digest, unless it is there."""


class BlobReader:
    """Random access to a file in parts; shares nothing that changes, so any thread may use it."""

    def __init__(self, blob: Blob, read: ReadObject) -> None:
        """Read the parts of `blob` by `read`, in requests that never reach beyond one part."""
        self._parts = blob.parts
        self._ends = list(accumulate(part.size_bytes for part in blob.parts))
        self._read = read

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the file's bytes from `start`.

        Raises:
            CodecError: The file has no such bytes.
        """
        end = start + len(buffer)
        if start < 0 or end > (self._ends[-1] if self._ends else 0):
            raise CodecError(f"range {start}..{end} lies outside a file of {self._ends[-1] if self._ends else 0} bytes")
        done, index = 0, bisect_right(self._ends, start)
        while done < len(buffer):
            part = self._parts[index]
            offset = start + done - (self._ends[index] - part.size_bytes)
            take = min(part.size_bytes - offset, len(buffer) - done)
            self._read(part.digest, buffer[done : done + take], offset)
            done, index = done + take, index + 1

    def read(self, start: int, length: int) -> bytes:
        """Return the file's bytes `start` to `start + length`; raises as `read_into`."""
        buffer = bytearray(length)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)


def put_part(data: bytes | bytearray | memoryview, put: PutObject) -> Part:
    """Store bytes as one part, and return the part, named by their SHA-256."""
    view = memoryview(data)
    part = Part(digest=sha256(view), size_bytes=len(view))
    put(part.digest, view)
    return part
