"""What a demonstration found, as values, as JSON, as a table and as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rich.table import Table


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
    """One a release, the base first."""
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
