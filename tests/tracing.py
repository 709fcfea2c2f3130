"""Lines that ran are written down for as long as a test's cases show new ones: it makes every line twice as slow.

A test of many cases runs the same code with other numbers. Once several cases, one after the other, have run no line
and taken no branch that this process had not seen, only some of the rest are traced, and again all where one of these
shows something new. Beside threads of somebody else's all are: a thread that was left alone once is not traced again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

try:
    from coverage import Coverage
except ImportError:
    Coverage = None

STALE = 4
"""Number of cases without anything new, one after the other, after which few of a test's cases are traced."""
SAMPLE = 10
"""One of so many is, then."""


class Traces:
    """Which tests have shown coverage nothing new."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()
        self._in_vain: Counter[str] = Counter()
        self._num_threads = threading.active_count()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Trace a case, or stop tracing while it runs."""
        test, has_cases, _ = item.nodeid.partition("[")
        if not has_cases or (coverage := _running()) is None:
            return (yield)
        self._done[test] += 1
        if self._may_rest(test):
            with _untraced():
                return (yield)
        before = _num_seen(coverage)
        try:
            return (yield)
        finally:
            self._in_vain[test] = 0 if _num_seen(coverage) > before else self._in_vain[test] + 1

    def _may_rest(self, test: str) -> bool:
        is_stale = self._in_vain[test] >= STALE and self._done[test] % SAMPLE
        return bool(is_stale) and threading.active_count() <= self._num_threads


def _running() -> Coverage | None:
    """Return what traces; pytest-cov leaves another one under it in each of several processes."""
    return Coverage.current() if Coverage is not None else None


@contextmanager
def _untraced() -> Iterator[None]:
    """Trace nothing in this block."""
    stopped = []
    while (coverage := _running()) is not None:
        coverage.stop()
        stopped.append(coverage)
    try:
        yield
    finally:
        for coverage in reversed(stopped):
            coverage.start()


def _num_seen(coverage: Coverage) -> int:
    return sum(map(len, list(coverage._collector.data.values())))
