"""How far something is, for who watches: bars on a terminal or in a notebook."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.progress import Progress

    from coldfuse.engine.passes import Pass
    from coldfuse.engine.passes import Progress as OnPass
    from coldfuse.gateway import OnProgress


Watching: TypeAlias = "bool | OnProgress | None"
"""True for a bar; or a function that is called with how much is done and how much there is in all."""


def is_watched() -> bool:
    """Tell whether standard error is a terminal."""
    return sys.stderr.isatty()


@contextmanager
def watching(what: str, progress: Watching) -> Iterator[OnProgress | None]:
    """Yield the callback for what a caller wants to see: nothing, a bar, or what its own function makes of it."""
    if progress is True:
        with bytes_bar(what) as show:
            yield show
    else:
        yield progress or None


@contextmanager
def bytes_bar(what: str) -> Iterator[OnProgress]:
    """Show how many bytes of all are done; yield the callback for it."""
    with _bar(what) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def pass_bar(passes: Sequence[Pass]) -> Iterator[OnPass]:
    """Show how far all passes of a fusion are together; yield the callback for it."""
    with _bar("{task.description}") as bar:
        task = bar.add_task("fusing", total=None)
        yield PassCount(passes, lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what
        ))  # fmt: skip


class PassCount:
    """Counts the bytes that all passes have read; the total grows where ranks take more passes than were planned."""

    def __init__(self, passes: Sequence[Pass], show: Callable[[int, int, str], None]) -> None:
        """Take the passes that are planned, and what is called with the bytes done, those in all, and what is done."""
        self._show = show
        self._left = Counter(_key(one) for one in passes)
        self._begun: Counter[object] = Counter()
        self._done = 0
        self._total = sum(one.read_bytes for one in passes)
        self._what = "fusing"

    def __call__(self, one: Pass, shard: int | None) -> None:
        """Count that a pass begins, or that one of its shards is done."""
        if shard is not None:
            self._done += one.shard_bytes(one.shards[shard])
        else:
            key = _key(one)
            self._begun[key] += 1
            if self._left[key] > 0:
                self._left[key] -= 1
            else:
                self._total += one.read_bytes
            self._what = one.name if self._begun[key] == 1 else f"{one.name}, pass {self._begun[key]}"
        self._show(self._done, self._total, self._what)


def _key(one: Pass) -> object:
    """Return what a pass has in common with those that only repeat it."""
    return one.name, one.step, one.measure


def _bar(text: str) -> Progress:
    # Rich takes as long to import as two tiny models to be fused, and mostly nobody watches.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(text), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
