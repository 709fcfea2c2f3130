"""A store in memory, for tests and for what one process does alone."""

from __future__ import annotations

import hashlib
import heapq
import threading

from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError
from coldfuse.storage.base import MAX_POINTER_BYTES, ObjectInfo, ObjectWriter, Page
from coldfuse.storage.keys import check_key, check_limit, check_range


class MemoryStore:
    """Objects in a dict. Lives and dies with the object: unlike the others it cannot be opened again by its url."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """A name for messages; `open_store` does not take it."""
        return "memory:"

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and etag, or None when there is no such object."""
        data = self._objects.get(check_key(key))
        return None if data is None else ObjectInfo(size_bytes=len(data), etag=_etag(data))

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of the object."""
        check_range(start, length)
        return self._read(key)[start : None if length is None else start + length]

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        """Fill the whole buffer from `start`."""
        check_range(start, None)
        target = buffer.cast("B")
        data = self._read(key)
        if start + len(target) > len(data):
            raise StorageError(f"{self.url} {key}: has {len(data)} bytes, wanted {len(target)} from {start}")
        target[:] = data[start : start + len(target)]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return the whole object and its etag."""
        data = self._read(key)
        return data[:MAX_POINTER_BYTES], _etag(data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Create the object; False if the key was taken."""
        check_key(key)
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = bytes(data)
        return True

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Replace the content that had this etag (None: there was no object), and return the new etag."""
        check_key(key)
        with self._lock:
            current = self._objects.get(key)
            if (None if current is None else _etag(current)) != etag:
                raise ConflictError(f"{self.url} {key}: was changed by somebody else; read it again")
            self._objects[key] = bytes(data)
        return _etag(data)

    def open_writer(self, key: str) -> MemoryWriter:
        """Start an object that is written in pieces."""
        return MemoryWriter(self, check_key(key))

    def list(self, prefix: str, *, after: str | None = None, limit: int = 1000) -> Page:
        """Return at most `limit` keys that begin with prefix and come after `after`."""
        check_limit(limit)
        with self._lock:
            keys = [key for key in self._objects if key.startswith(prefix) and (after is None or key > after)]
        found = heapq.nsmallest(limit + 1, keys)
        return Page(keys=tuple(found[:limit]), next_after=found[limit - 1] if len(found) > limit else None)

    def delete(self, key: str) -> None:
        """Remove the object; no error when there is none."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def _read(self, key: str) -> bytes:
        data = self._objects.get(check_key(key))
        if data is None:
            raise ObjectNotFoundError(f"{self.url} {key}: no such object")
        return data


class MemoryWriter(ObjectWriter):
    """Gathers the pieces and puts them at once."""

    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store = store
        self._key = key
        self._buffer = bytearray()
        self._is_open = True

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._require_open()
        self._buffer += data

    def commit(self) -> bool:
        """Make the object visible; False if the key was already taken."""
        self._require_open()
        self._is_open = False
        return self._store.put_if_absent(self._key, memoryview(self._buffer))

    def abort(self) -> None:
        """Drop what was written."""
        self._is_open = False
        self._buffer = bytearray()

    def _require_open(self) -> None:
        if not self._is_open:
            raise StorageError(f"{self._store.url} {self._key}: the writer is closed; open another")


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
