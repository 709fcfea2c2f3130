"""A store whose process is killed before its n-th operation."""

from __future__ import annotations

from faulty_store import FaultyStore

from coldfuse.storage import LocalStore


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
