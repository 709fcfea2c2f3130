"""An executor whose work is a sign of life, and that ends when the lease does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from coldfuse.aggregator.watchdog import Watchdog
from coldfuse.engine.execution import WatchedExecutor
from coldfuse.registry.lease import Lease

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


class LedExecutor:
    """Runs tasks as long as this process leads."""

    def __init__(self, executor: WatchedExecutor, lease: Lease, watchdog: Watchdog) -> None:
        """Take what runs the tasks, and by what it is known who leads.

        Args:
            executor: Runs the tasks.
            lease: This process's.
            watchdog: Is shown every result.
        """
        self._executor, self._lease, self._watchdog = executor, lease, watchdog
        self.task_bytes, self.num_workers = executor.task_bytes, executor.num_workers

    def run(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Run tasks as any executor; raises `LeaseLostError` once another aggregator may lead."""
        self._watchdog.sign()
        for result in self._executor.run(task, shared, items, alive=self._watchdog.sign):
            self._watchdog.sign()
            self._lease.check()
            yield result
