"""How far the passes of a fusion are."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

    from coldfuse.engine.execution import Begin
    from coldfuse.engine.folders.passes import Expected


@contextmanager
def pass_bars(expected: Callable[[], Sequence[Expected]], *, is_wanted: bool) -> Iterator[Begin]:
    """Show on standard error how far all passes together are, where somebody watches; yield what is to be told."""
    if not is_wanted or not sys.stderr.isatty():
        yield lambda _task, _shared, _items: lambda _index: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        yield PassBar(bar, expected()).begin


class PassBar:
    """One bar for all passes; it grows where ranks take more passes than were foretold."""

    def __init__(self, bar: Progress, expected: Sequence[Expected]) -> None:
        """Take where to show it, and the passes that are foretold."""
        from coldfuse.engine.folders.passes import name_of

        self._bar = bar
        self._left: defaultdict[str, list[int]] = defaultdict(list)
        for one in expected:
            self._left[name_of(one.task, one.shared)].append(one.read_bytes)
        self._total = sum(size for sizes in self._left.values() for size in sizes)
        self._begun: Counter[object] = Counter()
        self._task = bar.add_task("fusing", total=self._total)

    def begin(self, task: Callable[..., object], shared: object, items: Sequence[object]) -> Callable[[int], None]:
        """Begin a pass; return what is told each of its items that is done."""
        from coldfuse.engine.folders.passes import bytes_of, key_of, name_of
        from coldfuse.engine.plan import Shard

        name = name_of(task, shared)
        sizes = [bytes_of(task, shared, item) if isinstance(item, Shard) else 0 for item in items]
        self._total += sum(sizes) - (self._left[name].pop(0) if self._left[name] else 0)
        self._begun[key_of(task, shared)] += 1
        again = self._begun[key_of(task, shared)]
        said = name if again == 1 else f"{name}, pass {again}"
        self._bar.update(self._task, total=self._total, description=said)
        return lambda index: self._bar.advance(self._task, sizes[index])
