"""What coldfuse needs of an object store, as Protocols.

Every promise of the platform rests on two operations: `put_if_absent` for objects, which never change, and
`compare_and_swap` for pointers, which only change under the eyes of the one who read them last. Everything else is
reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from coldfuse.errors import ObjectNotFoundError

MAX_POINTER_BYTES = 16 << 20
"""Size beyond which nothing is a pointer, an entry or a note: twice what JSON may have before it is parsed."""


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """What a store knows of an object without reading it."""

    size_bytes: int
    etag: str
    """Opaque name of the content, for `compare_and_swap`."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some keys in ascending order, and where to go on."""

    keys: tuple[str, ...]
    next_after: str | None
    """Value of `after` for the next page; None on the last one."""


class ObjectWriter(Protocol):
    """Writes one object piece by piece; nothing is visible under the key before `commit`.

    Use as a context manager: leaving the block without `commit` aborts.
    """

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes, of any number."""

    def commit(self) -> bool:
        """Make the object visible, durable and whole; False if the key was already taken (then nothing changed)."""

    def abort(self) -> None:
        """Drop what was written; harmless after `commit` and when called twice."""

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless committed."""
        self.abort()


class ObjectStore(Protocol):
    """Keys to bytes, with conditional writes. Keys are relative POSIX paths such as `objects/<sha256>`.

    No key lies below another (`a` and `a/b`): S3 would not mind, but in a folder a file cannot. `keys.py` has the rest.
    All operations raise `StorageError` when the store fails. A write that returned is durable. Implementations are safe
    to share between threads, and several processes on one store see one truth.
    """

    @property
    def url(self) -> str:
        """Give this to `open_store`, in any process, to open the same store."""

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and etag, or None when there is no such object."""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes `start` to `start + length` (to the end without length; shorter where the object ends).

        Raises:
            ObjectNotFoundError: There is no such object.
        """

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        """Fill the whole buffer with bytes from `start` of an object that never changes.

        Raises:
            ObjectNotFoundError: There is no such object.
            StorageError: The object ends before the buffer is full.
        """

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return a pointer or note, whole, and the etag of exactly these bytes.

        Of what is longer than any of them, which somebody else has put there, the first `MAX_POINTER_BYTES` are read.

        Raises:
            ObjectNotFoundError: There is no such object.
        """

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Create the object; False, and nothing changed, if the key was taken."""

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Replace the content that had this etag, and return the new etag.

        A swap whose answer got lost and that in truth took place counts as success: an implementation that retries
        looks whose write is there before it calls it a conflict. If another swap has followed by then, nobody can tell
        any more, and it is a conflict.

        Args:
            key: The pointer.
            data: Its new content.
            etag: The etag of the content that it was decided on; None: there was no object.

        Raises:
            ConflictError: The object is no longer that one; read it and decide again.
        """

    def open_writer(self, key: str) -> ObjectWriter:
        """Start an object that is written in pieces with bounded memory, and put if absent at the end."""

    def list(self, prefix: str, *, after: str | None = None, limit: int = 1000) -> Page:
        """Return at most `limit` keys that begin with prefix (a string, not a folder) and come after `after`."""

    def delete(self, key: str) -> None:
        """Remove the object; no error when there is none."""


@runtime_checkable
class BuffersWrites(Protocol):
    """A store whose writers keep some of an object in memory."""

    def write_buffer_bytes(self, size_bytes: int) -> int:
        """Return how many bytes a writer holds at its most of an object of this size."""


def list_keys(store: ObjectStore, prefix: str, *, after: str | None = None) -> Iterator[str]:
    """List all keys that begin with a prefix and come after `after`, page by page."""
    while True:
        page = store.list(prefix, after=after)
        yield from page.keys
        if page.next_after is None:
            return
        after = page.next_after


@runtime_checkable
class LooksAgain(Protocol):
    """A store that is asked again before "not found" is believed."""

    def get_if_there(self, key: str, *, length: int) -> bytes | None:
        """Return an object's first bytes, or None when there is no such object: that is believed at once."""


def get_if_there(store: ObjectStore, key: str, *, length: int) -> bytes | None:
    """Return the first bytes of an object that may well not be there yet; None where it is not.

    One request, and no pause: who looks for what comes next looks in vain nearly always, and will look again.
    """
    if isinstance(store, LooksAgain):
        return store.get_if_there(key, length=length)
    try:
        return store.get(key, length=length)
    except ObjectNotFoundError:
        return None


@runtime_checkable
class LeavesGarbage(Protocol):
    """A store in which a writer that dies leaves something behind."""

    def collect_garbage(self, *, older_than_s: float) -> int:
        """Remove leftovers that were begun or last written longer ago than this; return how many."""


@runtime_checkable
class HasIdentity(Protocol):
    """A store whose url alone does not tell which one it is."""

    @property
    def identity(self) -> str:
        """Words that tell the place where the bytes lie from every other, as far as anybody knows."""


def store_identity(store: ObjectStore) -> str:
    """Return words that tell a store from every other; the same url may lead to another disk or server later."""
    return store.identity if isinstance(store, HasIdentity) else store.url


def collect_garbage(store: ObjectStore, *, older_than_s: float) -> int:
    """Remove unfinished writes of dead writers from the store, and return how many.

    Args:
        store: Any store; one that leaves nothing behind has nothing to collect.
        older_than_s: On S3 nobody knows whether a writer still lives: choose an age that no upload reaches, such as a
            day, since a live one that is older fails. A local store knows by a lock, and a live writer is never hurt.
    """
    return store.collect_garbage(older_than_s=older_than_s) if isinstance(store, LeavesGarbage) else 0
