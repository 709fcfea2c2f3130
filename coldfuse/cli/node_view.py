"""What a node does, shown to whoever watches: a moving line on a terminal, a line now and then elsewhere, JSON."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from coldfuse.cli.pace import Pace
from coldfuse.contributor.events import NodeEvent

T = TypeVar("T")

_BEAT_S = 2.0
_TROUBLE = ("connecting", "away")
_MOVING = ("fetching", "training", "statistics", "uploading", "waiting", *_TROUBLE)
"""Phases that say the same thing again and again, a little further on."""


@contextmanager
def node_view(*, as_json: bool) -> Iterator[Callable[[NodeEvent], None]]:
    """Yield a function that is told every event; threads may call it.

    JSON has every event, but not every try to reach a gateway that is away.
    """
    lock = threading.Lock()
    if not as_json and sys.stdout.isatty():
        with _live() as show_live:
            yield lambda event: _locked(lock, show_live, event)
        return
    lines = Lines()
    show = _json_line if as_json else _plain_line

    def tell(event: NodeEvent) -> None:
        if lines.is_due(event) or (as_json and event.phase not in _TROUBLE):
            show(event)

    with _beating(lambda: _locked(lock, lambda _: _repeat(lines, show), None)):
        yield lambda event: _locked(lock, tell, event)


@contextmanager
def _beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` every few seconds: what goes on for long says nothing of itself meanwhile."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(_BEAT_S):
            try:
                beat()
            except OSError:  # nobody reads any more: the next event ends the command
                return

    thread = threading.Thread(target=run, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _repeat(lines: Lines, show: Callable[[NodeEvent], None]) -> None:
    if (event := lines.overdue()) is not None:
        show(replace(event, message=f"{event.message}, still at it"))


def _locked(lock: threading.Lock, show: Callable[[T], None], event: T) -> None:
    with lock:
        show(event)
        sys.stdout.flush()


class Lines:
    """Decides which events are worth a line: what is new, the score of an epoch, and now and then how far it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has been said yet."""
        self._clock = clock
        self._phase, self._said = "", ""
        self._last: NodeEvent | None = None
        self._pace, self._trouble = Pace(clock=clock), Pace(grows=True, clock=clock)

    def is_due(self, event: NodeEvent) -> bool:
        """Tell whether an event is worth a line, and count it as said if so."""
        if event.phase in _TROUBLE:
            is_due = self._trouble.is_due()
            self._phase = "" if is_due else self._phase  # whatever comes next shows that it is over
            return is_due
        self._last = event
        said = re.sub(r"(\d+[hms] ?)+left", "", event.message)  # a countdown is no news
        if event.phase != self._phase:
            self._pace = Pace(grows=event.done is None, clock=self._clock)
        is_due = self._pace.is_due() or (said != self._said and self._is_news(event))
        if is_due:
            self._pace.count()
            self._phase, self._said = event.phase, said
        return is_due

    def overdue(self) -> NodeEvent | None:
        """Return the last event where it still goes on and a line about it is due, and count that as said."""
        last = self._last
        if last is None or last.done is None or self._phase != last.phase or not self._pace.is_due():
            return None
        self._said = last.message
        return last

    @staticmethod
    def _is_news(event: NodeEvent) -> bool:
        """Tell a step from one thing to the next from a step further in the same one."""
        return event.phase not in _MOVING or event.value is not None or event.done in (None, 0.0, 1.0)


def _json_line(event: NodeEvent) -> None:
    sys.stdout.write(json.dumps(event.as_json()) + "\n")


def _plain_line(event: NodeEvent) -> None:
    sys.stdout.write(_sentence(event) + "\n")


@contextmanager
def _live() -> Iterator[Callable[[NodeEvent], None]]:
    text = TextColumn("{task.description}", markup=False)  # what a gateway says may look like markup
    with Progress(SpinnerColumn(), text, BarColumn(bar_width=24), TimeElapsedColumn(), transient=True) as progress:
        task, lines = progress.add_task("starting", total=None), Lines()

        def show(event: NodeEvent) -> None:
            is_due = lines.is_due(event)
            if event.phase not in _MOVING or event.value is not None or (event.phase in _TROUBLE and is_due):
                progress.console.print(_sentence(event), highlight=False, soft_wrap=True, markup=False)
            total = 1.0 if event.done is not None else None
            progress.update(task, description=_sentence(event), completed=event.done or 0.0, total=total)

        yield show


def _sentence(event: NodeEvent) -> str:
    base = "" if event.base_release is None else f"release {event.base_release}: "
    return f"{base}{event.phase}: {event.message}"
