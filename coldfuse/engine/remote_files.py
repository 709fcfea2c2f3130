"""Files that lie as ordinary objects in an object store: ranges of them, read ahead, and never a whole file.

A request costs a round trip, and a model has hundreds of small tensors: what is asked for is read together with what
lies behind it, and a little of that is kept for the next tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType

from coldfuse.errors import StorageError, UserInputError
from coldfuse.storage import open_store
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.header import Header, read_header

_SMALL_BYTES = 1 << 20
"""Takes about as long to transfer as the request itself: so much is read at least, and kept."""

SCHEME = "s3://"

FetchRange = Callable[["RemoteObject", memoryview, int], None]
"""fetch(object, buffer, start): fill the buffer with the object's bytes from `start`."""


@dataclass(frozen=True)
class RemoteObject:
    """An object, as it was when it was first looked at."""

    store_url: str
    key: str
    size_bytes: int
    etag: str

    def open(self) -> RemoteFile:
        """Open the file."""
        return RemoteFile(self)

    def __str__(self) -> str:
        return f"{self.store_url}/{self.key}"


@dataclass(frozen=True)
class KeyRange:
    """Bytes of an object."""

    object: RemoteObject
    start: int
    length: int


@dataclass(frozen=True)
class KeySource:
    """A safetensors file that is an object."""

    object: RemoteObject
    header: Header

    @property
    def name(self) -> RemoteObject:
        """The file without its header."""
        return self.object

    def range(self, start: int, length: int) -> KeyRange:
        """Name some of the file's bytes."""
        return KeyRange(self.object, start, length)

    def open(self) -> RemoteFile:
        """Open the file."""
        return self.object.open()

    def __str__(self) -> str:
        return str(self.object)


class RemoteFile:
    """An object that any thread may read ranges of, as of a `LocalFile`."""

    def __init__(self, what: RemoteObject) -> None:
        self._object = what

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the object's bytes from `start`."""
        fetch(self._object, buffer, start)

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: there is nothing to close."""


class ReadAhead:
    """Reads ranges of objects for one task, each mostly from its beginning to its end."""

    def __init__(self, request_bytes: int, fetch_range: FetchRange | None = None) -> None:
        """Take how much of a range to read ahead: at most this many bytes are held of each object."""
        self._request_bytes = request_bytes
        self._fetch = fetch_range or fetch
        self._held: dict[RemoteObject, tuple[int, memoryview]] = {}
        self._used: set[RemoteObject] = set()

    def read_into(self, where: KeyRange, buffer: memoryview, offset: int) -> None:
        """Fill the buffer with the range's bytes from `offset`."""
        start = where.start + offset
        end = start + len(buffer)
        if len(buffer) >= self._request_bytes:
            self._fetch(where.object, buffer, start)
            return
        self._used.add(where.object)
        first, data = self._held.get(where.object, (0, memoryview(b"")))
        if not first <= start <= end <= first + len(data):
            first, data = start, self._read(where, start, len(buffer))
        buffer[:] = data[start - first : end - first]

    def forget(self) -> None:
        """Let go of what a next tensor cannot need, or what would take much memory until then."""
        small = {key: held for key, held in self._held.items() if key in self._used and len(held[1]) <= _SMALL_BYTES}
        self._held, self._used = small, set()

    def _read(self, where: KeyRange, start: int, wanted: int) -> memoryview:
        rest = where.start + where.length - start
        little = min(_SMALL_BYTES, where.object.size_bytes - start)
        data = memoryview(bytearray(max(wanted, min(self._request_bytes, max(rest, little)))))
        self._fetch(where.object, data, start)
        self._held[where.object] = start, data
        return data


def fetch(what: RemoteObject, buffer: memoryview, start: int) -> None:
    """Fill the buffer with the object's bytes from `start`."""
    store_at(what.store_url).read_into(what.key, buffer, start=start)


@lru_cache(maxsize=64)
def store_at(url: str) -> ObjectStore:
    """Open a store, once a process; it need not hold a federation."""
    return open_store(url)


def find_object(store_url: str, key: str) -> RemoteObject | None:
    """Look at an object; None if there is none."""
    found = store_at(store_url).head(key)
    return None if found is None else RemoteObject(store_url, key, found.size_bytes, found.etag)


def open_source(what: RemoteObject) -> KeySource:
    """Read the header of a safetensors file."""
    header = read_header(RemoteFile(what).read_into, file_bytes=what.size_bytes, what=str(what))
    return KeySource(what, header)


def check_unchanged(what: RemoteObject) -> None:
    """Raise `StorageError` if somebody has replaced the object since it was opened."""
    if find_object(what.store_url, what.key) != what:
        raise StorageError(f"{what}: was replaced or removed while it was read; try again when nobody writes to it")


def split_url(url: str) -> tuple[str, str]:
    """Return the store that an object lies in, and its key there.

    >>> split_url("s3://bucket/models/delta.safetensors")
    ('s3://bucket/models', 'delta.safetensors')
    """
    store_url, _, key = url.removeprefix(SCHEME).rstrip("/").rpartition("/")
    if not store_url:
        raise UserInputError(f"{url}: expected s3://BUCKET/PREFIX of a model folder, or s3://BUCKET/KEY of a delta")
    return SCHEME + store_url, key
