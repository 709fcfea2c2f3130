"""What a demonstration shows: a live line for each contributor, the aggregator and the consumer, and what it found.

On a terminal the lines change in place; elsewhere a line is printed when somebody begins something new.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from coldfuse.experiments.demo_gate import LeftOut, mean_change

_NEWS = ("connecting", "away", "changed", "training", "trained", "committed", "rejected", "late")
"""Phases of a contributor that are worth a line of their own."""


@dataclass
class DemoView:
    """What everybody does now. Threads may call it at the same time."""

    console: Console
    names: tuple[str, ...]
    """Names of the contributors."""
    _doing: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    _phases: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _live: Live | None = None

    def show(self, name: str, message: str, *, phase: str | None = None, done: float | None = None) -> None:
        """Show what somebody does; the same `phase` again is only shown where lines change in place."""
        with self._lock:
            self._doing[name] = (message, done)
            is_news = self._phases.get(name) != (phase or message)
            self._phases[name] = phase or message
            if self._live is not None:
                self._live.update(self._render(), refresh=is_news)
            elif is_news:
                self.console.print(f"{name:>18}  {message}", highlight=False, soft_wrap=True, markup=False)

    def follow_contributor(
        self, name: str, lines: Iterable[str], outcome: Callable[[], str] = lambda: "done"
    ) -> threading.Thread:
        """Read a contributor's events until it ends, and show its `outcome`, which may wait for that."""

        def read() -> None:
            for line in lines:
                self._show_event(name, line)
            self.show(name, outcome())

        return _start(read)

    def _show_event(self, name: str, line: str) -> None:
        try:
            event = json.loads(line)
            phase, base = event["phase"], event["base_release"]
            text, done = f"{phase}, {event['message']}", event["done"]
        except (ValueError, TypeError, KeyError):  # what a library prints is no event
            return
        news = phase if phase in _NEWS else self._phases.get(name, "").partition(" ")[2]
        self.show(name, text if base is None else f"round {base + 1}: {text}", phase=f"{base} {news}", done=done)

    def follow_aggregator(self, lines: Iterable[str]) -> threading.Thread:
        """Read what the aggregator says until it ends."""

        def read() -> None:
            for line in lines:
                self.show("aggregator", line.strip())

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
            table.add_row(Text(name, style="bold"), bar, Text(message))
        return table


@dataclass(frozen=True, kw_only=True)
class ReleaseScores:
    """A release's linear-probe accuracy (ColD-Frozen, arXiv 2212.01378, section 4) on each data set."""

    release: int
    model_digest: str
    seen_mean: float
    unseen_mean: float
    accuracy: Mapping[str, float]

    @classmethod
    def of(cls, release: int, digest: str, accuracy: Mapping[str, float], *, seen: Sequence[str]) -> ReleaseScores:
        """Compute the means."""
        return cls(
            release=release,
            model_digest=digest,
            seen_mean=fmean(accuracy[name] for name in seen),
            unseen_mean=fmean(accuracy[name] for name in accuracy if name not in seen),
            accuracy=dict(accuracy),
        )


@dataclass(frozen=True, kw_only=True)
class Results:
    """A whole run."""

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    rounds: tuple[ReleaseScores, ...]
    """Scores of each release, the base first."""
    left_out: tuple[LeftOut, ...]
    """What was sent and is in no release."""
    ended: str | None
    """Why there are fewer releases than rounds were asked for; None where there are not."""
    seed: int
    base: str
    model: str
    """Folder of the last release."""
    seconds: float

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    def table(self) -> Table:
        """Return the accuracies, data sets down and releases across."""
        table = Table(title="accuracy of a linear probe on the frozen body, in percent")
        table.add_column("data set")
        for scores in self.rounds:
            table.add_column("base" if scores.release == 0 else f"release {scores.release}", justify="right")
        for kind, names in (("seen", self.seen), ("unseen", self.unseen)):
            for name in names:
                table.add_row(f"{name} ({kind})", *(f"{s.accuracy[name]:.1%}"[:-1] for s in self.rounds))
            means = [s.seen_mean if kind == "seen" else s.unseen_mean for s in self.rounds]
            table.add_row(f"mean of {kind}", *(f"{mean:.1%}"[:-1] for mean in means), style="bold", end_section=True)
        return table

    def left_out_table(self) -> Table:
        """Return who was left out of a release, why, and what a release with it would have done to the suites."""
        table = Table(title="left out, and the change of the gate's suites")
        for name in ("round", "contributor", "by", "with it", "without it", "reason"):
            table.add_column(name, overflow="fold")
        for one in self.left_out:
            changes = mean_change(one.with_it), mean_change(one.without_it)
            table.add_row(str(one.round), one.contributor, one.by, *changes, Text(one.reason))
        return table

    def words(self) -> list[str]:
        """Say what became of the base on seen and unseen sets, also where it got worse, and who was left out."""
        first, last = self.rounds[0], self.rounds[-1]
        lines = [
            _change("seen", first.seen_mean, last.seen_mean),
            _change("unseen", first.unseen_mean, last.unseen_mean),
        ]
        if self.ended is not None:
            lines.append(f"ended after release {last.release}: {self.ended}")
        return lines + ([str(one) for one in self.left_out] or ["nobody was left out"])

    def plot(self, path: Path) -> None:
        """Draw the accuracies over the releases into a PNG."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
        releases = [scores.release for scores in self.rounds]
        for name in (*self.seen, *self.unseen):
            values = [100 * scores.accuracy[name] for scores in self.rounds]
            axes.plot(releases, values, ":" if name in self.unseen else "-", alpha=0.5, linewidth=1, label=name)
        axes.plot(releases, [100 * s.seen_mean for s in self.rounds], "o-k", linewidth=2, label="mean of seen")
        axes.plot(releases, [100 * s.unseen_mean for s in self.rounds], "o:k", linewidth=2, label="mean of unseen")
        axes.set(xlabel="release (0 is the base)", ylabel="linear-probe accuracy, %", xticks=releases)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(path, dpi=150)
        pyplot.close(figure)


def _change(kind: str, before: float, after: float) -> str:
    """Say what became of a mean, as plainly where it fell as where it rose.

    >>> _change("unseen", 0.609, 0.604)
    'mean of unseen sets: 60.9 % with the base, 60.4 % with the last release: WORSE by 0.5 points'
    """
    points = 100 * (after - before)
    said = f"better by {points:.1f} points" if points > 0 else f"WORSE by {-points:.1f} points"
    if round(abs(points), 1) == 0:
        said = "no better"
    return f"mean of {kind} sets: {before:.1%} with the base, {after:.1%} with the last release: {said}".replace(
        "%", " %"
    )


def _start(read: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
