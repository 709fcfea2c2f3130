"""A store whose process is killed before its n-th operation, or right before or after a write that is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from faulty_store import Fault, FaultyStore

from coldfuse.storage import LocalStore

T = TypeVar("T")


class KilledError(BaseException):
    """Stands for a kill: no `except Exception` stops it."""


class DyingStore(FaultyStore):
    """A store whose process is killed before its n-th operation; 0: never. Counts all operations."""

    def __init__(self, url: str, *, dies_at: int = 0) -> None:
        super().__init__(LocalStore(url))
        self.num_done = 0
        self._dies_at = dies_at

    @property
    def is_dead(self) -> bool:
        return 0 < self._dies_at <= self.num_done

    def _begin(self, operation: str, key: str) -> None:
        with self._lock:
            self.num_done += 1
            if self.is_dead:
                self.fired[operation] += 1  # type: ignore[index]
                raise KilledError(f"{operation} {key}")
        return super()._begin(operation, key)  # type: ignore[return-value]


@dataclass(frozen=True)
class Strike:
    """A write, right before or after which a process is killed."""

    key: str
    """Its key, or its folder where keys there are drawn by lot."""
    nth: int
    """Which write of this key, from 1."""
    is_after: bool

    def __str__(self) -> str:
        return f"{'after' if self.is_after else 'before'} write {self.nth} of {self.key}"


def _place(key: str) -> str:
    folder = key.partition("/")[0]
    return key if folder in ("rounds", "releases", "channels", "rollbacks") else folder


def strikes_of(written: Sequence[str]) -> Iterator[Strike]:
    """Yield the moments around the first write of each kind: of each event of a journal, each channel, each folder.

    An entry of a journal is two writes, that of the head and its own: there is a moment between them, too.
    """
    seen, count = set[str](), Counter[str]()
    for key in written:
        count[key] += 1
        folder = key.partition("/")[0]
        is_entry = "/journal/" in key
        kind = key.rpartition("-")[2] if is_entry else key if folder == "channels" else folder
        if kind in seen or key.endswith("/head") or folder in ("objects", "checks", "leases"):
            continue
        seen.add(kind)
        if is_entry:
            head = key.partition("/journal/")[0] + "/head"
            yield Strike(head, count[head], is_after=False)
        yield Strike(key, count[key], is_after=False)
        yield Strike(key, count[key], is_after=True)


class StruckStore(DyingStore):
    """A store whose process is killed at one moment, if at all; it notes where it writes."""

    def __init__(self, url: str, strike: Strike | None = None) -> None:
        super().__init__(url)
        self.written: list[str] = []
        self.is_struck = False
        self._strike = strike

    @property
    def is_dead(self) -> bool:
        return self.is_struck

    def _begin(self, operation: str, key: str) -> Fault | None:
        with self._lock:
            if self.is_struck:
                raise KilledError(f"{operation} {key}")
        return None

    def _written(self, key: str, write: Callable[[], T], fault: Fault | None) -> T:
        place = _place(key)
        with self._lock:
            self.written.append(place)
            nth = self.written.count(place)
            is_it = self._strike is not None and (place, nth) == (self._strike.key, self._strike.nth)
            if is_it and self._strike is not None and not self._strike.is_after:
                self.is_struck = True
                raise KilledError(str(self._strike))
        result = super()._written(key, write, fault)
        if is_it:
            self.is_struck = True
            raise KilledError(str(self._strike))
        return result
