"""A store that counts what it is asked."""

from __future__ import annotations

import threading
from collections import Counter

from coldfuse.storage.base import ObjectInfo, ObjectStore, ObjectWriter, Page


class CountedStore(ObjectStore):
    """Any store, with its operations counted by name; a writer counts once, when it is opened. Threads may share it."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Url of the store that is counted."""
        return self._inner.url

    def counts(self) -> dict[str, int]:
        """Return the number of operations so far, by what they do and the folder that they do it in: `get objects`."""
        with self._lock:
            return dict(self._counts)

    def head(self, key: str) -> ObjectInfo | None:
        """Count, and ask the store."""
        self._count("head", key)
        return self._inner.head(key)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Count, and ask the store."""
        self._count("get", key)
        return self._inner.get(key, start=start, length=length)

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        """Count, and ask the store."""
        self._count("get", key)
        self._inner.read_into(key, buffer, start=start)

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Count, and ask the store."""
        self._count("get", key)
        return self._inner.get_with_etag(key)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Count, and ask the store."""
        self._count("put", key)
        return self._inner.put_if_absent(key, data)

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Count, and ask the store."""
        self._count("swap", key)
        return self._inner.compare_and_swap(key, data, etag=etag)

    def open_writer(self, key: str) -> ObjectWriter:
        """Count, and ask the store."""
        self._count("put", key)
        return self._inner.open_writer(key)

    def list(self, prefix: str, *, after: str | None = None, limit: int = 1000) -> Page:
        """Count, and ask the store."""
        self._count("list", prefix)
        return self._inner.list(prefix, after=after, limit=limit)

    def delete(self, key: str) -> None:
        """Count, and ask the store."""
        self._count("delete", key)
        self._inner.delete(key)

    def _count(self, name: str, key: str) -> None:
        with self._lock:
            self._counts[f"{name} {key.partition('/')[0]}".strip()] += 1
