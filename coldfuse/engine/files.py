"""Where the bytes of a fusion lie: ranges of local files, of objects, or of files in parts in an object store."""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np

from coldfuse.core.blob import Blob
from coldfuse.core.dtypes import Raw
from coldfuse.engine.bulk_read import read_ranges
from coldfuse.engine.remote_files import KeyRange, KeySource, ReadAhead
from coldfuse.errors import StorageError
from coldfuse.registry.federation import SETTINGS_KEY
from coldfuse.registry.objects import Objects
from coldfuse.storage import open_store
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.blobs import BlobReader
from coldfuse.tensors.header import Header
from coldfuse.tensors.local_file import LocalFile, LocalPath

_MAX_OPEN_FILES = 256
"""Local files that one task keeps open; a fusion may read thousands."""


@dataclass(frozen=True)
class LocalRange:
    """Bytes of a local file, from `start`."""

    path: Path
    start: int


@dataclass(frozen=True)
class StoreRange:
    """Bytes from `start` of a few parts: of a file in a store, only those that are needed."""

    blob: Blob
    start: int


ByteRange = LocalRange | StoreRange | KeyRange


@dataclass(frozen=True)
class LocalSource:
    """A safetensors file in a folder."""

    path: Path
    header: Header

    @property
    def name(self) -> LocalPath:
        """The file without its header."""
        return LocalPath(self.path)

    def range(self, start: int, length: int) -> ByteRange:  # noqa: ARG002  # a path needs no end
        """Name some of the file's bytes."""
        return LocalRange(self.path, start)

    def open(self) -> LocalFile:
        """Open the file."""
        return LocalFile(self.path)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class StoreSource:
    """A safetensors file that lies as parts in a store."""

    blob: Blob
    header: Header

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of the file's bytes: the parts that hold them."""
        first = bisect_right(self._ends, start)
        last = bisect_right(self._ends, start + length - 1)
        before = self._ends[first - 1] if first else 0
        return StoreRange(Blob(parts=self.blob.parts[first : last + 1]), start - before)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(part.size_bytes for part in self.blob.parts))


Source = LocalSource | StoreSource | KeySource


@lru_cache(maxsize=8)
def shared_store(url: str) -> ObjectStore:
    """Open a federation's store, once a process."""
    store = open_store(url)
    if store.head(SETTINGS_KEY) is None:
        hint = "Ray on several machines needs a folder that they share, or s3://"
        raise StorageError(f"{url} holds no federation as {socket.gethostname()} sees it: {hint}")
    return store


class RangeReader:
    """Reads ranges for one task, each mostly from its beginning to its end."""

    def __init__(self, store_url: str | None, *, request_bytes: int = 0) -> None:
        """Take the store that `StoreRange`s lie in, if there is one, and how much to read ahead from stores."""
        self._store_url = store_url
        self._request_bytes = request_bytes
        self._files: OrderedDict[Path, LocalFile] = OrderedDict()
        self._ahead: dict[int, tuple[ByteRange, int, memoryview]] = {}
        self._objects = ReadAhead(request_bytes)

    def read_into(self, where: ByteRange, buffer: memoryview, offset: int) -> None:
        """Fill the buffer with the range's bytes from `offset`."""
        if isinstance(where, LocalRange):
            self._local(where.path).read_into(buffer, where.start + offset)
        elif isinstance(where, KeyRange):
            self._objects.read_into(where, buffer, offset)
        elif len(buffer) < self._request_bytes:
            self._read_ahead(where, buffer, offset)
        else:
            self._fetch(where, buffer, offset)

    def read_rows(self, wheres: Sequence[ByteRange | None], offsets: Sequence[int], out: Raw) -> None:
        """Fill `out` with rows of equal length, one of each range from its offset; None leaves its row alone."""
        row = len(out) // len(wheres)
        done = 0
        if len(wheres) < _MAX_OPEN_FILES and all(where is None or isinstance(where, LocalRange) for where in wheres):
            local = [(self._local(w.path).fileno(), w.start) if isinstance(w, LocalRange) else (-1, 0) for w in wheres]
            fds_C, starts_C = np.array(local, np.int64).T
            done = read_ranges(np.ascontiguousarray(fds_C), starts_C + np.array(offsets, np.int64), out)
        for index in range(done, len(wheres)):
            if (where := wheres[index]) is not None:
                self.read_into(where, out[index * row : (index + 1) * row].data, offsets[index])

    def _read_ahead(self, where: StoreRange, buffer: memoryview, offset: int) -> None:
        """Answer from what was read before, or read more than was asked: a request costs a round trip."""
        end = offset + len(buffer)
        _, start, data = self._ahead.get(id(where), (where, 0, memoryview(b"")))
        if not start <= offset <= end <= start + len(data):
            start, length = offset, min(self._request_bytes, where.blob.size_bytes - where.start - offset)
            data = memoryview(bytearray(max(length, len(buffer))))
            self._fetch(where, data, start)
            self._ahead[id(where)] = where, start, data  # holds `where`, so that its id stays its own
        buffer[:] = data[offset - start : end - start]

    def _fetch(self, where: StoreRange, buffer: memoryview, offset: int) -> None:
        if self._store_url is None:
            raise ValueError("a range of a store, and no store")
        read = Objects(shared_store(self._store_url)).read_into
        BlobReader(where.blob, read).read_into(buffer, where.start + offset)

    def forget(self) -> None:
        """Let go of what was read ahead: another piece comes."""
        self._ahead.clear()
        self._objects.forget()

    def _local(self, path: Path) -> LocalFile:
        if path in self._files:
            self._files.move_to_end(path)
        else:
            self._files[path] = LocalFile(path)
            if len(self._files) > _MAX_OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        return self._files[path]

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
