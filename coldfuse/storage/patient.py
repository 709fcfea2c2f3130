"""A store that outlives what passes: every call is tried again, and what is doubtful is settled by looking.

Networks, servers and disks fail now and then, and not only by saying so: an answer gets lost after the write took
place, a proxy answers a conflict to a write that it has sent twice itself, a replica has not heard of an object yet. So

- an error that may pass (`StorageError.may_pass`) is followed by another try, a few times;
- "not found" is believed when it was said several times, unless who asks expects it (`get_if_there`);
- "the key was taken" is believed when an object is there, and a conflict when the object is not the one it was decided
  on;
- a write after a lost answer counts as ours if exactly its bytes are there. Two writers that write the same bytes over
  the same version cannot be told apart then: what coldfuse swaps names its writer, or means the same whoever wrote it.

What does not pass (a full disk, wrong credentials) is raised at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError
from coldfuse.storage.base import (
    BuffersWrites,
    ObjectInfo,
    ObjectStore,
    ObjectWriter,
    Page,
    collect_garbage,
    get_if_there,
    store_identity,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

NUM_TRIES = 8
"""Number of times that a call is tried."""

NUM_LOOKS = 4
"""Number of times that a store must say that there is no object."""

PATIENCE_S = 10.0
"""Seconds after which nothing is tried again: who asked wants to hear of it."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.02, 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Bounds of the pauses of a service that waits for its store."""
_MAX_COMPARED_BYTES = 1 << 20


class PatientStore:
    """Any store, asked again where it fails in passing."""

    def __init__(self, inner: ObjectStore) -> None:
        """Wrap a store; nothing is asked of it yet."""
        self.inner = inner

    def __reduce__(self) -> tuple[type[PatientStore], tuple[ObjectStore]]:
        """Travel to another process with the store."""
        return PatientStore, (self.inner,)

    @property
    def url(self) -> str:
        """The store's."""
        return self.inner.url

    @property
    def identity(self) -> str:
        """The store's."""
        return store_identity(self.inner)

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and etag, or None when there is no such object: that is believed at once."""
        return _patiently(lambda: self.inner.head(key))

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of the object."""
        return _patiently(lambda: self.inner.get(key, start=start, length=length))

    def get_if_there(self, key: str, *, length: int) -> bytes | None:
        """Return an object's first bytes, or None when there is no such object: that is believed at once."""
        return _patiently(lambda: get_if_there(self.inner, key, length=length))

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        """Fill the whole buffer from `start`."""
        return _patiently(lambda: self.inner.read_into(key, buffer, start=start))

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return the whole object and its etag."""
        return _patiently(lambda: self.inner.get_with_etag(key))

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Create the object; False if the key was taken."""
        is_doubtful = False

        def attempt() -> bool:
            nonlocal is_doubtful
            try:
                if self.inner.put_if_absent(key, data):
                    return True
            except StorageError:
                is_doubtful = True
                raise
            there = self._require(key)
            return is_doubtful and self._holds(key, data, there)

        return _patiently(attempt)

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Replace the content that had this etag (None: there was no object), and return the new etag."""
        is_doubtful = False

        def attempt() -> str:
            nonlocal is_doubtful
            try:
                return self.inner.compare_and_swap(key, data, etag=etag)
            except ConflictError as error:
                now = self._read(key)
                if is_doubtful and now is not None and now[0] == data:
                    return now[1]
                if (now and now[1]) == etag:
                    raise _contradiction(self, key, "says that it was changed, and it was not") from error
                raise
            except StorageError:
                is_doubtful = True
                raise

        return _patiently(attempt)

    def open_writer(self, key: str) -> PatientWriter:
        """Start an object that is written in pieces. A piece that fails is not tried again: the writer has to be."""
        return PatientWriter(self, key, _patiently(lambda: self.inner.open_writer(key)))

    def write_buffer_bytes(self, size_bytes: int) -> int:
        """Return how many bytes a writer holds at its most of an object of this size."""
        return self.inner.write_buffer_bytes(size_bytes) if isinstance(self.inner, BuffersWrites) else 0

    def list(self, prefix: str, *, after: str | None = None, limit: int = 1000) -> Page:
        """Return at most `limit` keys that begin with prefix and come after `after`."""
        return _patiently(lambda: self.inner.list(prefix, after=after, limit=limit))

    def delete(self, key: str) -> None:
        """Remove the object; no error when there is none."""
        return _patiently(lambda: self.inner.delete(key))

    def collect_garbage(self, *, older_than_s: float) -> int:
        """Remove what dead writers left; see `coldfuse.storage.collect_garbage`."""
        return _patiently(lambda: collect_garbage(self.inner, older_than_s=older_than_s))

    def _require(self, key: str) -> ObjectInfo:
        """Look at an object that the store says is there."""
        there = self.inner.head(key)
        if there is None:
            raise _contradiction(self, key, "says that the key was taken, and nothing is there")
        return there

    def _holds(self, key: str, data: bytes | memoryview, there: ObjectInfo) -> bool:
        view = memoryview(data).cast("B")
        if there.size_bytes != len(view):
            return False
        return len(view) > _MAX_COMPARED_BYTES or self.inner.get(key) == view  # what is large is named by its content

    def _read(self, key: str) -> tuple[bytes, str] | None:
        try:
            return self.inner.get_with_etag(key)
        except ObjectNotFoundError:
            return None


class PatientWriter(ObjectWriter):
    """A writer whose `commit` is settled by looking."""

    def __init__(self, store: PatientStore, key: str, inner: ObjectWriter) -> None:
        self._store = store
        self._key = key
        self._inner = inner
        self._size_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._inner.write(data)
        self._size_bytes += memoryview(data).nbytes

    def commit(self) -> bool:
        """Make the object visible, durable and whole; False if the key was already taken."""
        try:
            if self._inner.commit():
                return True
        except StorageError as error:
            if not error.may_pass:
                raise
            there = self._store.head(self._key)
            if there is None or there.size_bytes != self._size_bytes:
                raise
            return True
        if self._store.head(self._key) is None:
            raise _contradiction(self._store, self._key, "says that the key was taken, and nothing is there")
        return False

    def abort(self) -> None:
        """Drop what was written."""
        self._inner.abort()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless committed; where that fails too, the first error is the one to hear, and the rest is garbage."""
        with suppress(*((StorageError,) if error is not None else ())):
            self.abort()


def _patiently(call: Callable[[], T]) -> T:
    """Call until it succeeds or fails for good; the last error is raised."""
    try:
        return call()  # nearly always
    except StorageError as error:
        if not _may_pass(error):
            raise
    retrying = Retrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=_is_enough,
        before_sleep=lambda state: log.debug("trying again: %s", state.outcome and state.outcome.exception()),
        reraise=True,
    )
    return retrying(call)


def wait_for(step: Callable[[], T], announce: Callable[[str], None]) -> T:
    """Return what the step returns, however long the store is away meanwhile.

    Args:
        step: What is done, and done again.
        announce: Is told why before each pause.

    Raises:
        StorageError: The store fails in a way that does not pass.
    """
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, StorageError) and error.may_pass),
        wait=wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
        before_sleep=lambda state: announce(f"waiting for the store: {state.outcome and state.outcome.exception()}"),
        reraise=True,
    )
    return retrying(step)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ObjectNotFoundError) or (isinstance(error, StorageError) and error.may_pass)


def _is_enough(state: RetryCallState) -> bool:
    """Tell whether to give up after this failure; the first try of all came before those that are counted."""
    error = state.outcome.exception() if state.outcome else None
    limit = NUM_LOOKS if isinstance(error, ObjectNotFoundError) else NUM_TRIES
    return state.attempt_number + 1 >= limit or (state.seconds_since_start or 0.0) >= PATIENCE_S


def _contradiction(store: ObjectStore, key: str, what: str) -> StorageError:
    return StorageError(f"{store.url} {key}: the store {what}; try again", may_pass=True)
