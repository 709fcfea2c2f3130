"""Reading a file in parts from a store, so that nothing is handed out that was not verified.

What is read is read in whole pieces of `PIECE_BYTES`, each of which must have its check (`checks`). Of a part without
checks, or with damaged ones, the checks are made first: it is read whole, and must have the SHA-256 that it is named
by. A wrong read may be the line's fault or a worn cable's, so it is repeated, past whatever the store keeps open,
before anything is concluded.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate

from coldfuse.core.blob import Blob, Part
from coldfuse.core.serialization import sha256
from coldfuse.errors import DamagedObjectError, StorageError
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.blobs import BlobReader
from coldfuse.tensors.checks import CHECK_BYTES, PIECE_BYTES, Checks, checks_in, list_bytes, list_starts
from coldfuse.tensors.rereading import TRIES, damaged, fetch_verified, get_verified, pause

log = logging.getLogger(__name__)

_SCRATCH_BYTES = 16 * PIECE_BYTES
"""Size of the longest range that is read beside its place and copied, in one request instead of three."""

_HEADS_BYTES = 4 << 20
"""Size of the heads of checks that a process remembers."""

_AHEAD_BYTES = 32 << 10
"""Number of bytes of checks that are read at once and remembered: all of a file of up to 100 MiB."""


class VerifiedReader:
    """Random access to a file in parts, verified; any thread may use it."""

    def __init__(self, store: ObjectStore, blob: Blob, checks: Checks | None, *, what: str = "a file") -> None:
        """Read nothing yet.

        Args:
            store: The federation's store.
            blob: The file's parts, or some consecutive ones.
            checks: Where the checks of these parts lie; None: they are made when they are needed.
            what: The file's name, for people.
        """
        self._store, self._parts, self._what = store, blob.parts, what
        self._index_of = {part.digest: index for index, part in enumerate(blob.parts)}
        self._reader = BlobReader(blob, lambda digest, *where: self._read_part(self._index_of[digest], *where))
        self._ends = list(accumulate(part.size_bytes for part in blob.parts))
        self._checks = checks
        self._list_starts = list_starts(blob) if checks else []
        self._small: tuple[int, memoryview] = -1, memoryview(b"")
        self._list: tuple[int, bytes] = -1, b""

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the file's bytes from `start`.

        Raises:
            CodecError: The file has no such bytes.
            DamagedObjectError: A part, or what it is verified by, is damaged.
            StorageError: The store is away.
        """
        self._reader.read_into(buffer, start)

    def read(self, start: int, length: int) -> bytes:
        """Return the file's bytes `start` to `start + length`; raises as `read_into`."""
        buffer = bytearray(length)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)

    def span(self, start: int, length: int) -> tuple[int, int]:
        """Return the first byte and the end of what has to be read to verify a range of the file."""
        return self._edge(start, up=False), self._edge(start + length, up=True)

    def _edge(self, at: int, *, up: bool) -> int:
        """Return the next byte before or after `at` between two pieces."""
        index = bisect_right(self._ends, at)
        if index == len(self._parts):
            return self._ends[-1] if self._ends else 0
        part = self._parts[index]
        first = self._ends[index] - part.size_bytes
        if at == first:
            return at
        pieces = -(-(at - first) // PIECE_BYTES) if up else (at - first) // PIECE_BYTES
        return min(first + pieces * PIECE_BYTES, self._ends[index])

    def _read_part(self, index: int, buffer: memoryview, offset: int) -> None:
        size, end = self._parts[index].size_bytes, offset + len(buffer)
        if len(buffer) == size:
            self._fetch(index, buffer, 0)
            return
        if size <= PIECE_BYTES:
            buffer[:] = self._read_small(index)[offset:end]
            return
        first, last = offset // PIECE_BYTES * PIECE_BYTES, min(-(-end // PIECE_BYTES) * PIECE_BYTES, size)
        if (first, last) == (offset, end):
            self._fetch(index, buffer, offset)
        elif last - first <= _SCRATCH_BYTES:
            scratch = memoryview(bytearray(last - first))
            self._fetch(index, scratch, first)
            buffer[:] = scratch[offset - first : end - first]
        else:  # its ends beside their place, and what lies between, which is most, in place
            inner = -(-offset // PIECE_BYTES) * PIECE_BYTES
            outer = end if end == size else end // PIECE_BYTES * PIECE_BYTES
            for low, high in ((offset, inner), (inner, outer), (outer, end)):
                if low < high:
                    self._read_part(index, buffer[low - offset : high - offset], low)

    def _read_small(self, index: int) -> memoryview:
        """Return a part that is one piece, and keep it for the next range of it."""
        kept, data = self._small
        if kept != index:
            data = memoryview(bytearray(self._parts[index].size_bytes))
            self._fetch(index, data, 0)
            self._small = index, data
        return data

    def _fetch(self, index: int, buffer: memoryview, offset: int) -> None:
        """Fill the buffer with whole pieces, or with a whole part, and verify it."""
        part = self._parts[index]
        if len(buffer) == part.size_bytes:
            is_right = _is_named(buffer, part.digest)
        else:
            is_right = _is_checked(buffer, self._list_of(index), offset)
        fetch_verified(self._store, f"objects/{part.digest}", buffer, offset=offset, is_right=is_right, what=self._what)

    def _list_of(self, index: int) -> bytes:
        kept, found = self._list
        if kept != index:
            found = self._read_list(index)
            self._list = index, found
        return found

    def _read_list(self, index: int) -> bytes:
        part = self._parts[index]
        if self._checks is not None:
            start = self._checks.start + self._list_starts[index]
            try:
                return read_list(self._store, self._checks, index, start, list_bytes(part.size_bytes))
            except DamagedObjectError as error:
                log.warning("%s; until then parts are read whole to verify them", error)
        return scan_part(self._store, part)


def scan_part(store: ObjectStore, part: Part) -> bytes:
    """Read a part whole, a little at a time, verify it, and return its list of checks.

    Raises:
        DamagedObjectError: The part is damaged.
        StorageError: The store is away.
    """
    key, failure = f"objects/{part.digest}", None
    for number in range(TRIES):
        pause(number)
        try:
            digest, made = hashlib.sha256(), []
            for start in range(0, part.size_bytes, _SCRATCH_BYTES):
                data = store.get(key, start=start, length=min(_SCRATCH_BYTES, part.size_bytes - start))
                digest.update(data)
                made.append(checks_in(memoryview(data)))
            failure = None
        except StorageError as error:
            failure = error
        if failure is None and digest.hexdigest() == part.digest:
            return b"".join(made) if part.size_bytes > PIECE_BYTES else b""
    raise damaged(store, key, end=part.size_bytes, what="a part", failure=failure)


class _Heads:
    """The beginnings of checks, which are small and asked for by every task."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, root: str) -> bytes | None:
        with self._lock:
            if root in self._found:
                self._found.move_to_end(root)
            return self._found.get(root)

    def put(self, root: str, data: bytes) -> None:
        with self._lock:
            self._size += len(data) - len(self._found.get(root, b""))
            self._found[root] = data
            while self._size > _HEADS_BYTES:
                self._size -= len(self._found.popitem(last=False)[1])


_heads = _Heads()


def read_list(store: ObjectStore, checks: Checks, index: int, start: int, length: int) -> bytes:
    """Return the checks of a part, verified.

    Args:
        store: The federation's store.
        checks: Where the checks of a file lie, or of some of its parts.
        index: Index of the part among these.
        start: Byte in the object of checks at which the part's begin.
        length: Their size.

    Raises:
        DamagedObjectError: The object of checks is damaged.
        StorageError: The store is away.
    """
    known = _heads.get(checks.root)
    if known is None:
        ahead = max(checks.head_bytes, _AHEAD_BYTES)
        known = get_verified(store, checks.key, lambda data: checks.is_head(_head(checks, data)), length=ahead)
        _heads.put(checks.root, known)
    head = _head(checks, known)
    found = known[start : start + length]
    if checks.is_list(head, index, found):
        return found
    return get_verified(store, checks.key, lambda data: checks.is_list(head, index, data), start=start, length=length)


def _head(checks: Checks, data: bytes) -> bytes:
    return data[: checks.head_bytes]


def _is_named(buffer: memoryview, digest: str) -> Callable[[], bool]:
    return lambda: sha256(buffer) == digest


def _is_checked(buffer: memoryview, checks: bytes, offset: int) -> Callable[[], bool]:
    at = offset // PIECE_BYTES * CHECK_BYTES
    return lambda: checks_in(buffer) == checks[at : at + -(-len(buffer) // PIECE_BYTES) * CHECK_BYTES]
