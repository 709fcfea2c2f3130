"""What a node does, shown to whoever watches: a moving line on a terminal, plain lines elsewhere, JSON for scripts."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from coldfuse.contributor.node import NodeEvent

_MOVING = ("fetching", "training", "uploading", "waiting")
"""Phases that say the same thing again and again, a little further on."""


@contextmanager
def node_view(*, as_json: bool) -> Iterator[Callable[[NodeEvent], None]]:
    """Yield a function that is told every event; threads may call it."""
    lock = threading.Lock()
    if not as_json and sys.stdout.isatty():
        with _live() as show_live:
            yield lambda event: _locked(lock, show_live, event)
        return
    show = _json_line if as_json else _plain_lines()
    yield lambda event: _locked(lock, show, event)


def _locked(lock: threading.Lock, show: Callable[[NodeEvent], None], event: NodeEvent) -> None:
    with lock:
        show(event)
        sys.stdout.flush()


def _json_line(event: NodeEvent) -> None:
    score = event.score.model_dump() if event.score else None
    facts = {"phase": event.phase, "base_release": event.base_release, "message": event.message}
    sys.stdout.write(json.dumps(facts | {"done": event.done, "score": score}) + "\n")


def _plain_lines() -> Callable[[NodeEvent], None]:
    """Print what is new: the beginning and the end of what moves, and no countdown."""
    last: list[str] = []

    def show(event: NodeEvent) -> None:
        quiet = event.phase in _MOVING and event.done not in (None, 0.0, 1.0)
        said = re.sub(r"\d+ s left", "", f"{event.phase} {event.message}")
        if not quiet and said not in last:
            sys.stdout.write(_sentence(event) + "\n")
        last[:] = [said]

    return show


@contextmanager
def _live() -> Iterator[Callable[[NodeEvent], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def show(event: NodeEvent) -> None:
            if event.phase not in _MOVING:
                progress.console.print(_sentence(event), highlight=False, soft_wrap=True)
            total = 1.0 if event.done is not None else None
            progress.update(task, description=_sentence(event), completed=event.done or 0.0, total=total)

        yield show


def _sentence(event: NodeEvent) -> str:
    return f"release {event.base_release}: {event.phase}: {event.message}"
