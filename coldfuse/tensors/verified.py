"""Reading a file in parts from a store, so that nothing is handed out that was not verified.

What is read is read in whole pieces of `PIECE_BYTES`, each of which must have its check (`checks`); a part without
checks is read whole, and must have the SHA-256 that it is named by. A wrong read may be the line's fault or a worn
cable's, so it is repeated, past whatever the store keeps open, before anything is concluded.
"""

from __future__ import annotations

import errno
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate

from coldfuse.core.blob import Blob
from coldfuse.core.serialization import sha256
from coldfuse.errors import DamagedObjectError, ObjectNotFoundError, StorageError
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.blobs import BlobReader
from coldfuse.tensors.checks import CHECK_BYTES, PIECE_BYTES, Checks, check_of, list_bytes, list_starts

TRIES = 3
"""Number of times that something is read before it counts as damaged."""

_PAUSE_S = 0.05
"""Seconds before the second try; before the third it is twice as long."""

_SCRATCH_BYTES = 16 * PIECE_BYTES
"""Size of the longest range that is read beside its place and copied, in one request instead of three."""

_HEADS_BYTES = 4 << 20
"""Size of the heads of checks that a process remembers."""

_AHEAD_BYTES = 32 << 10
"""Number of bytes of checks that are read at once and remembered: all of a file of up to 100 MiB."""

ADVICE = "`coldfuse doctor STORE --repair` looks for what can bring it back"


class VerifiedReader:
    """Random access to a file in parts, verified; any thread may use it."""

    def __init__(self, store: ObjectStore, blob: Blob, checks: Checks | None, *, what: str = "a file") -> None:
        """Read nothing yet.

        Args:
            store: The federation's store.
            blob: The file's parts, or some consecutive ones.
            checks: Where the checks of these parts lie; None: parts are read whole.
            what: The file's name, for people.
        """
        self._store, self._parts, self._what = store, blob.parts, what
        self._index_of = {part.digest: index for index, part in enumerate(blob.parts)}
        self._reader = BlobReader(blob, lambda digest, *where: self._read_part(self._index_of[digest], *where))
        self._ends = list(accumulate(part.size_bytes for part in blob.parts))
        self._checks = checks
        self._list_starts = list_starts(blob) if checks else []
        self._whole: tuple[int, memoryview] = -1, memoryview(b"")
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
        if not self._is_in_pieces(index):
            return self._ends[index] if up else first
        pieces = -(-(at - first) // PIECE_BYTES) if up else (at - first) // PIECE_BYTES
        return min(first + pieces * PIECE_BYTES, self._ends[index])

    def _is_in_pieces(self, index: int) -> bool:
        return self._checks is not None and self._parts[index].size_bytes > PIECE_BYTES

    def _read_part(self, index: int, buffer: memoryview, offset: int) -> None:
        size, end = self._parts[index].size_bytes, offset + len(buffer)
        if not self._is_in_pieces(index):
            if len(buffer) == size:
                self._fetch(index, buffer, 0)
            else:
                buffer[:] = self._read_whole(index)[offset:end]
            return
        first, last = offset // PIECE_BYTES * PIECE_BYTES, min(-(-end // PIECE_BYTES) * PIECE_BYTES, size)
        if (first, last) == (offset, end):
            self._fetch(index, buffer, offset)
        elif last - first <= _SCRATCH_BYTES:
            scratch = memoryview(bytearray(last - first))
            self._fetch(index, scratch, first)
            buffer[:] = scratch[offset - first : end - first]
        else:  # its ends beside their place, and what lies between, which is most, in place
            inner, outer = -(-offset // PIECE_BYTES) * PIECE_BYTES, end if end == size else end // PIECE_BYTES * PIECE_BYTES
            for low, high in ((offset, inner), (inner, outer), (outer, end)):
                if low < high:
                    self._read_part(index, buffer[low - offset : high - offset], low)

    def _read_whole(self, index: int) -> memoryview:
        """Return a part that is verified whole, and keep it for the next range of it."""
        kept, data = self._whole
        if kept != index:
            data = memoryview(bytearray(self._parts[index].size_bytes))
            self._fetch(index, data, 0)
            self._whole = index, data
        return data

    def _fetch(self, index: int, buffer: memoryview, offset: int) -> None:
        """Fill the buffer with whole pieces, or with a whole part, and verify it."""
        part = self._parts[index]
        checks = self._list_of(index) if self._is_in_pieces(index) else None

        def is_right() -> bool:
            return sha256(buffer) == part.digest if checks is None else _have_checks(buffer, checks, offset)

        fetch_verified(self._store, f"objects/{part.digest}", buffer, offset=offset, is_right=is_right, what=self._what)

    def _list_of(self, index: int) -> bytes:
        kept, found = self._list
        if kept != index and self._checks is not None:
            start = self._checks.start + self._list_starts[index]
            found = read_list(self._store, self._checks, index, start, list_bytes(self._parts[index].size_bytes))
            self._list = index, found
        return found


def fetch_verified(
    store: ObjectStore, key: str, buffer: memoryview, *, offset: int, is_right: Callable[[], bool], what: str
) -> None:
    """Fill a buffer from an object until what it holds is right, a few times.

    Args:
        store: Where the object lies.
        key: Its key.
        buffer: Where the bytes go.
        offset: The byte in the object that they begin at.
        is_right: Tells whether the buffer holds what it should.
        what: What the object belongs to, for people.

    Raises:
        DamagedObjectError: The object is missing, cut, unreadable or altered.
        StorageError: The store is away.
    """
    failure: StorageError | None = None
    for number in range(TRIES):
        try:
            if number == 0:
                store.read_into(key, buffer, start=offset)
            else:  # anew: what a store has open may be a file that was replaced
                time.sleep(number * _PAUSE_S)
                _refill(buffer, store.get(key, start=offset, length=len(buffer)))
            failure = None
        except StorageError as error:
            failure = error
        if failure is None and is_right():
            return
    why = why_unreadable(store, key, offset + len(buffer), failure)
    if why is None and failure is not None:
        raise failure
    why = why or f"bytes {offset:,} to {offset + len(buffer):,} are not those that it is named by, read {TRIES} times"
    raise DamagedObjectError(f"{store.url} {key} ({what}) is damaged: {why}; {ADVICE}", key=key)


def why_unreadable(store: ObjectStore, key: str, end: int, error: StorageError | None) -> str | None:
    """Return what is wrong with an object of which bytes up to `end` were wanted; None: nothing that its size shows."""
    if isinstance(error, ObjectNotFoundError) or (info := store.head(key)) is None:
        return "it is missing"
    if info.size_bytes < end:
        return f"it was cut to {info.size_bytes:,} bytes"
    cause = error.__cause__ if error else None
    return "the disk cannot read it" if isinstance(cause, OSError) and cause.errno == errno.EIO else None


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


def get_verified(
    store: ObjectStore, key: str, is_right: Callable[[bytes], bool], *, start: int = 0, length: int | None = None
) -> bytes:
    """Read a small object, or a range of one, until what it holds is right, a few times.

    Args:
        store: Where the object lies.
        key: Its key.
        is_right: Tells whether these are the bytes that are expected.
        start: First byte to read.
        length: Number of bytes, fewer where the object ends; None: to its end.

    Raises:
        DamagedObjectError: The object is missing, unreadable or altered.
        StorageError: The store is away.
    """
    why: str | None = None
    for number in range(TRIES):
        time.sleep(number * _PAUSE_S)
        try:
            data = store.get(key, start=start, length=length)
        except StorageError as error:
            why = why_unreadable(store, key, 0, error)
            if why is None:
                raise
            continue
        if is_right(data):
            return data
        why = "it is empty" if not data else "it is not what it is named by"
    raise DamagedObjectError(f"{store.url} {key} is damaged: {why}; {ADVICE}", key=key)


def _have_checks(buffer: memoryview, checks: bytes, offset: int) -> bool:
    at = offset // PIECE_BYTES * CHECK_BYTES
    for start in range(0, len(buffer), PIECE_BYTES):
        if check_of(buffer[start : start + PIECE_BYTES]) != checks[at : at + CHECK_BYTES]:
            return False
        at += CHECK_BYTES
    return True


def _refill(buffer: memoryview, data: bytes) -> None:
    buffer[: len(data)] = data
    buffer[len(data) :] = bytes(len(buffer) - len(data))  # an end that is missing must not be what came before

