"""A file of bytes, wherever it lies: on this machine, as an object in S3, or as parts in a federation's store.

A `File` is a description: small, comparable, and the same in every process, so that a task on another machine can be
handed one. `open` returns what reads it; a range of it (`ByteRange`) names no more of a file in parts than is needed.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from coldfuse.core.blob import Blob
from coldfuse.errors import StorageError, UserInputError
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.checks import Checks, list_starts
from coldfuse.tensors.stores import federation_store, store_at
from coldfuse.tensors.verified import VerifiedReader


class OpenFile(Protocol):
    """What reads an opened file; any thread may call it."""

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the whole buffer with the file's bytes from `start`."""


class File(Protocol):
    """A file by its name and place."""

    @property
    def name(self) -> str:
        """The file's name, for people."""

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""

    @property
    def is_remote(self) -> bool:
        """True if every request costs a round trip, or more than reading from a descriptor."""

    def open(self) -> OpenFile:
        """Return what reads the file; `close` it, or use `opened`, as a local file holds a descriptor.

        Raises:
            UserInputError: A local file cannot be read.
            StorageError: A store is away.
        """

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of the file's bytes."""


@dataclass(frozen=True)
class ByteRange:
    """Some consecutive bytes of a file."""

    file: File
    start: int
    """Byte in the file at which the range begins."""
    length: int
    """Number of bytes."""


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        """Size of the file now."""
        with readable(self.path):
            return self.path.stat().st_size

    @property
    def is_remote(self) -> bool:
        """False."""
        return False

    def open(self) -> OpenLocalFile:
        """Open it. Raises `UserInputError` where it cannot be read. The result is a context manager, too."""
        return OpenLocalFile(self.path)

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of the file's bytes."""
        return ByteRange(self, start, length)

    def __str__(self) -> str:
        return self.name


class OpenLocalFile:
    """An open file on this machine, of which any thread may read ranges straight into a buffer. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with readable(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def size_bytes(self) -> int:
        """Size of the file now."""
        return os.fstat(self._descriptor).st_size

    def fileno(self) -> int:
        """Return the open file's descriptor."""
        return self._descriptor

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the file's bytes from `start`."""
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], start + done)
            if count == 0:
                raise UserInputError(f"{self._path}: ends before byte {start + len(buffer):,}; is it still written to?")
            done += count

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> OpenLocalFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(frozen=True)
class ObjectFile:
    """A file that is one object of a store, as it was when it was first looked at."""

    store_url: str
    """Address of the store that the key is looked up in."""
    key: str
    size_bytes: int
    etag: str
    """The store's name for this content, which changes when somebody replaces the object."""

    @property
    def name(self) -> str:
        """The object's address."""
        return f"{self.store_url}/{self.key}"

    @property
    def is_remote(self) -> bool:
        """True."""
        return True

    def open(self) -> OpenFile:
        """Return what reads it."""
        return _OpenObject(store_at(self.store_url), self.key)

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of the file's bytes."""
        return ByteRange(self, start, length)

    def require_unchanged(self) -> None:
        """Raise `StorageError` if somebody has replaced the object since it was first looked at."""
        if find_object(self.store_url, self.key) != self:
            raise StorageError(f"{self}: was replaced or removed while it was read; try again when nobody writes to it")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class _OpenObject:
    store: ObjectStore
    key: str

    def read_into(self, buffer: memoryview, start: int) -> None:
        self.store.read_into(self.key, buffer, start=start)


@dataclass(frozen=True)
class BlobFile:
    """A file that lies as parts in a federation's store, each an object named by its SHA-256."""

    store_url: str
    """Address of the federation's store."""
    blob: Blob
    """The parts, in the order of the file."""
    name: str
    """What the file is, for people."""
    checks: Checks | None = None
    """What ranges of it are verified by as they are read; None: parts are read and verified whole."""

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return self._ends[-1] if self._ends else 0

    @property
    def is_remote(self) -> bool:
        """True: also in a folder every read opens an object."""
        return True

    def open(self) -> VerifiedReader:
        """Return what reads it, and verifies all that it reads."""
        return VerifiedReader(federation_store(self.store_url), self.blob, self.checks, what=self.name)

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of the file's bytes by the few parts that hold them: a model's list of parts may be long."""
        first = bisect_right(self._ends, start)
        last = bisect_right(self._ends, start + max(length, 1) - 1)
        before = self._ends[first - 1] if first else 0
        few = BlobFile(
            self.store_url, Blob(parts=self.blob.parts[first : last + 1]), self.name, self._checks_from(first)
        )
        return ByteRange(few, start - before, length)

    def _checks_from(self, first: int) -> Checks | None:
        return self.checks and self.checks.range(first, self._list_starts[first])

    @cached_property
    def _list_starts(self) -> list[int]:
        return list_starts(self.blob)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(part.size_bytes for part in self.blob.parts))

    def __str__(self) -> str:
        return self.name


@contextmanager
def opened(file: File) -> Iterator[OpenFile]:
    """Open a file for a block."""
    reader = file.open()
    try:
        yield reader
    finally:
        close(reader)


def close(reader: OpenFile) -> None:
    """Close what holds a descriptor."""
    if isinstance(reader, OpenLocalFile):
        reader.close()


def read_bytes(file: File) -> bytes:
    """Return a small file's content, which is held in memory whole."""
    data = bytearray(file.size_bytes)
    with opened(file) as reader:
        reader.read_into(memoryview(data), 0)
    return bytes(data)


def find_object(store_url: str, key: str) -> ObjectFile | None:
    """Look at an object; None if there is none. Raises `StorageError` if the store is away."""
    found = store_at(store_url).head(key)
    return None if found is None else ObjectFile(store_url, key, found.size_bytes, found.etag)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `UserInputError` that names the file."""
    try:
        yield
    except OSError as error:
        raise UserInputError(f"{path}: cannot be read: {error.strerror}") from error
