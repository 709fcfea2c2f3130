"""The live picture of a demonstration: one line for each contributor, the aggregator and the consumer.

On a terminal the lines change in place; elsewhere a line is printed when somebody begins something new.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

_NEWS = ("training", "trained", "committed", "rejected", "late")
"""What a contributor does that is worth a line of its own."""


@dataclass
class DemoView:
    """What everybody does now. Threads may tell it things at the same time."""

    console: Console
    names: tuple[str, ...]
    _doing: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    _phases: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _live: Live | None = None

    def tell(self, name: str, message: str, *, phase: str | None = None, done: float | None = None) -> None:
        """Say what somebody does; the same `phase` again is only shown where lines change in place."""
        with self._lock:
            self._doing[name] = (message, done)
            is_news = self._phases.get(name) != (phase or message)
            self._phases[name] = phase or message
            if self._live is not None:
                self._live.update(self._render(), refresh=is_news)
            elif is_news:
                self.console.print(f"{name:>18}  {message}", highlight=False, soft_wrap=True)

    def follow_contributor(self, name: str, lines: IO[str]) -> threading.Thread:
        """Read a contributor's events until it ends."""

        def read() -> None:
            for line in lines:
                event = json.loads(line)
                phase, base = event["phase"], event["base_release"]
                news = phase if phase in _NEWS else self._phases.get(name, "").partition(" ")[2]
                text = f"round {base + 1}: {phase}, {event['message']}"
                self.tell(name, text, phase=f"{base} {news}", done=event["done"])
            self.tell(name, "done")

        return _start(read)

    def follow_aggregator(self, lines: Iterable[str]) -> threading.Thread:
        """Read what the aggregator says until it ends."""

        def read() -> None:
            for line in lines:
                self.tell("aggregator", line.strip())

        return _start(read)

    def __enter__(self) -> DemoView:
        if self.console.is_terminal:
            self._live = Live(self._render(), console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name in (*self.names, "aggregator", "consumer"):
            message, done = self._doing.get(name, ("starting", None))
            bar = ProgressBar(total=1.0, completed=done, width=16) if done is not None else ""
            table.add_row(f"[bold]{name}[/bold]", bar, message)
        return table


def _start(read: object) -> threading.Thread:
    thread = threading.Thread(target=read, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread
