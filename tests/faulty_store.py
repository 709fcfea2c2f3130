"""A store that fails on command, or by chance: any `ObjectStore`, wrapped below the Protocol.

Faults are armed for the n-th call of an operation, or with a probability from a seed; what fired is counted, so that a
test can see that its faults landed. `heal` ends them all. `installed` puts the store in the place of the one that
tasks and commands would open themselves.

    with FaultyStore(LocalStore(folder), seed=1) as store:
        store.arm("put_if_absent", Fault.LOST_ANSWER, at=3)
        store.arm("*", Fault.ERROR, probability=0.05)
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Self, TypeVar

import pytest

from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError
from coldfuse.storage import ObjectInfo, ObjectStore, ObjectWriter, Page, PatientStore

T = TypeVar("T")

READS = ("head", "get", "get_with_etag", "read_into")
WRITES = ("put_if_absent", "compare_and_swap", "open_writer", "write", "commit", "delete")
OPERATIONS = (*READS, *WRITES, "list")


class Fault(Enum):
    """What can go wrong with one call."""

    ERROR = "error before anything took place"
    LOST_ANSWER = "error after it took place"
    FALSE_CONFLICT = "a conflict that there is not"
    FALSE_NOT_FOUND = "an object that is there is not found"
    SLOW = "a pause before the answer"
    TRUNCATED = "the end of the bytes is missing"
    CORRUPTED = "one bit of the bytes is another"
    STALE_LIST = "the newest keys are not listed"


APPLIES: dict[Fault, tuple[str, ...]] = {
    Fault.ERROR: OPERATIONS,
    Fault.LOST_ANSWER: ("put_if_absent", "compare_and_swap", "commit", "delete"),
    Fault.FALSE_CONFLICT: ("put_if_absent", "compare_and_swap", "commit"),
    Fault.FALSE_NOT_FOUND: READS,
    Fault.SLOW: OPERATIONS,
    Fault.TRUNCATED: ("get", "get_with_etag"),
    Fault.CORRUPTED: ("get", "get_with_etag", "read_into"),
    Fault.STALE_LIST: ("list",),
}
"""The operations that each fault can happen to."""

TRANSIENT = (Fault.ERROR, Fault.LOST_ANSWER, Fault.FALSE_CONFLICT, Fault.FALSE_NOT_FOUND)
"""What a failing server or network does to an answer; the bytes that arrive are right."""


@dataclass
class _Armed:
    operation: str
    fault: Fault
    left: int | None
    """Calls until it fires, once; None: by chance."""
    probability: float
    prefix: str


class FaultyStore:
    """Any store, with faults. Counts all calls (`calls`, by operation) and what fired (`fired`, by both)."""

    def __init__(self, store: ObjectStore, *, seed: int = 0, slow_s: float = 0.05) -> None:
        """Wrap a store; nothing fails until it is told to."""
        self.inner = store
        self.calls: Counter[str] = Counter()
        self.fired: Counter[tuple[str, Fault]] = Counter()
        self._random = random.Random(seed)
        self._slow_s = slow_s
        self._armed: list[_Armed] = []
        self._new_keys: set[str] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The wrapped store's."""
        return self.inner.url

    def arm(self, operation: str, fault: Fault, *, at: int = 1, probability: float | None = None, prefix: str = ""):
        """Let a fault happen.

        Args:
            operation: One of `OPERATIONS`; "*" for all that the fault can happen to.
            fault: What happens.
            at: To which call from now on, once; not used with a probability.
            probability: How likely it is at every call.
            prefix: Only calls for keys that begin so.
        """
        assert operation == "*" or operation in APPLIES[fault], f"{fault} does not happen to {operation}"
        left = at if probability is None else None
        with self._lock:
            self._armed.append(_Armed(operation, fault, left, probability or 0.0, prefix))

    def heal(self) -> None:
        """End all faults."""
        with self._lock:
            self._armed.clear()

    @property
    def num_fired(self) -> int:
        """Number of faults that happened."""
        return sum(self.fired.values())

    @property
    def num_calls(self) -> int:
        """Number of calls; a writer counts with its `commit`, as S3 sees it."""
        return sum(count for name, count in self.calls.items() if name not in ("open_writer", "write"))

    def head(self, key: str) -> ObjectInfo | None:
        fault = self._begin("head", key)
        return None if fault is Fault.FALSE_NOT_FOUND else self.inner.head(key)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        fault = self._begin("get", key)
        return self._bent(self.inner.get(key, start=start, length=length), fault, key)

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        fault = self._begin("read_into", key)
        if fault is Fault.FALSE_NOT_FOUND:
            raise _not_found(key)
        self.inner.read_into(key, buffer, start=start)
        if fault is Fault.CORRUPTED and len(buffer):
            buffer.cast("B")[self._random.randrange(len(buffer))] ^= 1

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        fault = self._begin("get_with_etag", key)
        data, etag = self.inner.get_with_etag(key)
        return self._bent(data, fault, key), etag

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        fault = self._begin("put_if_absent", key)
        if fault is Fault.FALSE_CONFLICT:
            return False
        return self._written(key, lambda: self.inner.put_if_absent(key, data), fault)

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        fault = self._begin("compare_and_swap", key)
        if fault is Fault.FALSE_CONFLICT:
            raise ConflictError(f"{key}: injected conflict; read it and decide again")
        return self._written(key, lambda: self.inner.compare_and_swap(key, data, etag=etag), fault)

    def open_writer(self, key: str) -> FaultyWriter:
        self._begin("open_writer", key)
        return FaultyWriter(self, key, self.inner.open_writer(key))

    def list(self, prefix: str, *, after: str | None = None, limit: int = 1000) -> Page:
        fault = self._begin("list", prefix)
        page = self.inner.list(prefix, after=after, limit=limit)
        with self._lock:
            hidden = self._new_keys.intersection(page.keys)
            if fault is not Fault.STALE_LIST:
                self._new_keys -= hidden
                return page
        return Page(keys=tuple(key for key in page.keys if key not in hidden), next_after=page.next_after)

    def delete(self, key: str) -> None:
        fault = self._begin("delete", key)
        self._written(key, lambda: self.inner.delete(key), fault)

    def collect_garbage(self, *, older_than_s: float) -> int:
        collect = getattr(self.inner, "collect_garbage", None)
        return collect(older_than_s=older_than_s) if collect else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()

    def _begin(self, operation: str, key: str) -> Fault | None:
        """Count a call, and return what goes wrong with it; an error that comes first is raised, a pause made."""
        with self._lock:
            self.calls[operation] += 1
            fault = self._choose(operation, key)
            if fault is not None:
                self.fired[operation, fault] += 1
        if fault is Fault.ERROR:
            raise StorageError(f"{key}: injected error at {operation}; try again", may_pass=True)
        if fault is Fault.SLOW:
            time.sleep(self._slow_s)
        return fault

    def _choose(self, operation: str, key: str) -> Fault | None:
        chosen: Fault | None = None
        for armed in list(self._armed):
            if operation not in APPLIES[armed.fault] or armed.operation not in ("*", operation):
                continue
            if not key.startswith(armed.prefix):
                continue
            if armed.left is None:
                fires = self._random.random() < armed.probability
            else:
                armed.left -= 1
                fires = armed.left == 0
                if fires:
                    self._armed.remove(armed)
            chosen = armed.fault if fires and chosen is None else chosen
        return chosen

    def _written(self, key: str, write: Callable[[], T], fault: Fault | None) -> T:
        result = write()
        with self._lock:
            self._new_keys.add(key)
        if fault is Fault.LOST_ANSWER:
            raise StorageError(f"{key}: injected loss of an answer; try again", may_pass=True)
        return result

    def _bent(self, data: bytes, fault: Fault | None, key: str) -> bytes:
        if fault is Fault.FALSE_NOT_FOUND:
            raise _not_found(key)
        if fault is Fault.TRUNCATED:
            return data[: self._random.randrange(len(data))] if data else data
        if fault is Fault.CORRUPTED and data:
            place = self._random.randrange(len(data))
            return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        return data


class FaultyWriter(ObjectWriter):
    """A writer whose `write` and `commit` may fail."""

    def __init__(self, store: FaultyStore, key: str, writer: ObjectWriter) -> None:
        self._store = store
        self._key = key
        self._writer = writer

    def write(self, data: bytes | memoryview) -> None:
        self._store._begin("write", self._key)
        self._writer.write(data)

    def commit(self) -> bool:
        fault = self._store._begin("commit", self._key)
        if fault is Fault.FALSE_CONFLICT:
            self._writer.abort()
            return False
        return self._store._written(self._key, self._writer.commit, fault)

    def abort(self) -> None:
        self._writer.abort()


@contextmanager
def installed(store: FaultyStore) -> Iterator[FaultyStore]:
    """Give out this store, patient as `open_store` makes it, wherever this process opens the store with its url."""
    from coldfuse import storage
    from coldfuse.tensors import stores

    def open_it(url: str, **options: object) -> ObjectStore:
        return PatientStore(store) if url == store.url else storage.open_store(url, **options)

    caches = (stores.store_at, stores.federation_store)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("tensors.stores", "cli.source", "cli.init", "cli.rules", "transport.connect"):
            patch.setattr(f"coldfuse.{module}.open_store", open_it)
        for cache in caches:
            cache.cache_clear()
        try:
            yield store
        finally:
            for cache in caches:
                cache.cache_clear()


def _not_found(key: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"{key}: injected; no such object")
