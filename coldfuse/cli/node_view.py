"""What a node does, shown to whoever watches: a moving line on a terminal, a line now and then elsewhere, JSON."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from coldfuse.cli.pace import Pace
from coldfuse.contributor.events import NodeEvent

_TROUBLE = ("connecting", "away")
_MOVING = ("fetching", "training", "uploading", "waiting", *_TROUBLE)
"""Phases that say the same thing again and again, a little further on."""


@contextmanager
def node_view(*, as_json: bool) -> Iterator[Callable[[NodeEvent], None]]:
    """Yield a function that is told every event; threads may call it."""
    lock = threading.Lock()
    if not as_json and sys.stdout.isatty():
        with _live() as show_live:
            yield lambda event: _locked(lock, show_live, event)
        return
    lines = Lines()
    show = _json_lines(lines) if as_json else _plain_lines(lines)
    yield lambda event: _locked(lock, show, event)


def _locked(lock: threading.Lock, show: Callable[[NodeEvent], None], event: NodeEvent) -> None:
    with lock:
        show(event)
        sys.stdout.flush()


class Lines:
    """Decides which events are worth a line: what is new, the score of an epoch, and now and then how far it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has been said yet."""
        self._clock = clock
        self._phase, self._said = "", ""
        self._pace, self._trouble = Pace(clock=clock), Pace(grows=True, clock=clock)

    def is_due(self, event: NodeEvent) -> bool:
        """Tell whether an event is worth a line, and count it as said if so."""
        if event.phase in _TROUBLE:
            is_due = self._trouble.is_due()
            self._phase = "" if is_due else self._phase  # whatever comes next shows that it is over
            return is_due
        said = re.sub(r"\d+ s left", "", event.message)  # a countdown is no news
        if event.phase != self._phase:
            self._pace = Pace(grows=event.done is None, clock=self._clock)
        is_due = self._pace.is_due() or (said != self._said and self._is_news(event))
        if is_due:
            self._pace.count()
            self._phase, self._said = event.phase, said
        return is_due

    @staticmethod
    def _is_news(event: NodeEvent) -> bool:
        """Tell a step from one thing to the next from a step further in the same one."""
        return event.phase not in _MOVING or event.accuracy is not None or event.done in (None, 0.0, 1.0)


def _json_lines(lines: Lines) -> Callable[[NodeEvent], None]:
    """Print every event, but not every try to reach a gateway that is away."""

    def show(event: NodeEvent) -> None:
        if lines.is_due(event) or event.phase not in _TROUBLE:
            score = event.score.model_dump() if event.score else None
            facts = {"phase": event.phase, "base_release": event.base_release, "message": event.message}
            numbers = {"done": event.done, "accuracy": event.accuracy, "score": score}
            sys.stdout.write(json.dumps(facts | numbers) + "\n")

    return show


def _plain_lines(lines: Lines) -> Callable[[NodeEvent], None]:
    def show(event: NodeEvent) -> None:
        if lines.is_due(event):
            sys.stdout.write(_sentence(event) + "\n")

    return show


@contextmanager
def _live() -> Iterator[Callable[[NodeEvent], None]]:
    text = TextColumn("{task.description}", markup=False)  # what a gateway says may look like markup
    with Progress(SpinnerColumn(), text, BarColumn(bar_width=24), TimeElapsedColumn(), transient=True) as progress:
        task, lines = progress.add_task("starting", total=None), Lines()

        def show(event: NodeEvent) -> None:
            is_due = lines.is_due(event)
            if event.phase not in _MOVING or event.accuracy is not None or (event.phase in _TROUBLE and is_due):
                progress.console.print(_sentence(event), highlight=False, soft_wrap=True, markup=False)
            total = 1.0 if event.done is not None else None
            progress.update(task, description=_sentence(event), completed=event.done or 0.0, total=total)

        yield show


def _sentence(event: NodeEvent) -> str:
    base = "" if event.base_release is None else f"release {event.base_release}: "
    return f"{base}{event.phase}: {event.message}"
