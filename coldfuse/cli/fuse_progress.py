"""How far the passes of a fusion are."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from coldfuse.engine.passes import Pass, Progress


@contextmanager
def pass_bar(passes: Callable[[], Sequence[Pass]], *, is_wanted: bool) -> Iterator[Progress | None]:
    """Show on standard error how far all passes together are, where somebody watches; yield the callback for it."""
    if not is_wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        yield PassBar(bar, passes())


class PassBar:
    """One bar for all passes; it grows where ranks take more passes than were planned."""

    def __init__(self, bar: Bar, passes: Sequence[Pass]) -> None:
        """Take where to show it, and the passes that are planned."""
        self._bar = bar
        self._left = Counter(_key(one) for one in passes)
        self._begun: Counter[object] = Counter()
        self._total = sum(one.read_bytes for one in passes)
        self._task = bar.add_task("fusing", total=self._total)

    def __call__(self, one: Pass, shard: int | None) -> None:
        """Show that a pass begins, or that one of its shards is done."""
        if shard is not None:
            self._bar.advance(self._task, one.shard_bytes(one.shards[shard]))
            return
        key = _key(one)
        self._begun[key] += 1
        if self._left[key] > 0:
            self._left[key] -= 1
        else:
            self._total += one.read_bytes
        said = one.name if self._begun[key] == 1 else f"{one.name}, pass {self._begun[key]}"
        self._bar.update(self._task, total=self._total, description=said)


def _key(one: Pass) -> object:
    """Return what a pass has in common with those that only repeat it."""
    return one.name, one.step, one.measure
