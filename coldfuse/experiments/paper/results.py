"""Scores to curves over rounds, with their spread over seeds, to JSON lines and to a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

from coldfuse.experiments.paper.values import Group, Protocol


@dataclass(frozen=True, kw_only=True)
class Row:
    """One score, as it stands in the file of results."""

    variant: str
    """Curve, or baseline."""
    fold: int
    seed: int
    round: int
    protocol: Protocol
    group: Group
    set: str
    accuracy: float
    model: str
    """Name of the model that was scored."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The mean accuracy over folds and data sets after a round, by seed."""

    round: int
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.by_seed)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 of one."""
        return stdev(self.by_seed) if len(self.by_seed) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of the figure."""

    variant: str
    protocol: Protocol
    group: Group
    points: tuple[Point, ...]

    @property
    def gains(self) -> tuple[float, ...]:
        """What the last round is above the start, by seed, of the seeds that have both."""
        start, last = self.points[0], self.points[-1]
        before = dict(zip(start.seeds, start.by_seed, strict=True))
        ends = zip(last.seeds, last.by_seed, strict=True)
        return tuple(after - before[seed] for seed, after in ends if seed in before)


def curves(rows: Sequence[Row]) -> list[Curve]:
    """Return all curves in the order of the rows. A seed that lacks scores of a round is left out of that round."""
    found: dict[tuple[str, Protocol, Group], list[Row]] = {}
    for row in rows:
        found.setdefault((row.variant, row.protocol, row.group), []).append(row)
    return [
        Curve(variant=variant, protocol=protocol, group=group, points=_points(some))
        for (variant, protocol, group), some in found.items()
    ]


def _points(rows: Sequence[Row]) -> tuple[Point, ...]:
    counted = Counter((row.round, row.seed, row.fold) for row in rows)
    whole: dict[int, int] = {}  # data sets of each fold: folds may differ by one, and a seed has one or all of them
    for (_, _, fold), count in counted.items():
        whole[fold] = max(whole.get(fold, 0), count)
    folds = max(Counter(seed for seed, _ in {(row.seed, row.fold) for row in rows}).values())
    points = []
    for at in sorted({row.round for row in rows}):
        full = Counter(seed for (number, seed, f), count in counted.items() if number == at and count == whole[f])
        seeds = sorted(seed for seed, count in full.items() if count == folds)
        if seeds:
            means = [fmean(r.accuracy for r in rows if (r.round, r.seed) == (at, seed)) for seed in seeds]
            points.append(Point(round=at, seeds=tuple(seeds), by_seed=tuple(means)))
    return tuple(points)


def as_lines(rows: Iterable[Row]) -> list[str]:
    """Return each score as a line of JSON."""
    return [json.dumps(asdict(row)) for row in rows]


def as_table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table: curves down, rounds across, in percent, ± the spread over seeds.

    Where there is a single seed, there is a dash for the spread.
    """
    found = curves(rows)
    rounds = sorted({point.round for curve in found for point in curve.points})
    heads = ["curve", "score", "data sets", *(f"round {r}" if r else "start" for r in rounds), "gain"]
    lines = [_line(heads), _line(["---", "---", "---", *["---:"] * (len(rounds) + 1)])]
    for curve in found:
        at = {point.round: f"{100 * point.mean:.1f}{_spread(point.by_seed)}" for point in curve.points}
        cells = [curve.variant, curve.protocol, curve.group, *(at.get(number, "") for number in rounds)]
        lines.append(_line([*cells, _gain(curve)]))
    return lines


def _gain(curve: Curve) -> str:
    if len(curve.points) < 2:
        return ""
    gains = curve.gains
    return f"{100 * fmean(gains):+.1f}{_spread(gains)}" if gains else ""


def _spread(by_seed: Sequence[float]) -> str:
    return f" ± {100 * stdev(by_seed):.1f}" if len(by_seed) > 1 else " ± –"


def by_set(rows: Sequence[Row]) -> list[str]:
    """Say, for each curve of several rounds, on how many data sets the last round is better than the start."""
    lines = []
    for curve in curves(rows):
        if len(curve.points) < 2:
            continue
        first, last = curve.points[0], curve.points[-1]
        both = set(first.seeds) & set(last.seeds)
        own = [
            row for row in rows
            if (row.variant, row.protocol, row.group) == (curve.variant, curve.protocol, curve.group)
            and row.seed in both
        ]  # fmt: skip
        if not own:
            continue
        gains = {
            name: _of_set(own, name, last.round) - _of_set(own, name, first.round)
            for name in dict.fromkeys(r.set for r in own)
        }
        worst = min(gains, key=gains.__getitem__)
        best = max(gains, key=gains.__getitem__)
        num_better = sum(gain > 0 for gain in gains.values())
        lines.append(
            f"{curve.variant}, {curve.protocol}, {curve.group}: better than the start on {num_better} of {len(gains)} "
            f"data sets; best {best} {100 * gains[best]:+.1f}, worst {worst} {100 * gains[worst]:+.1f}"
        )
    return lines


def _of_set(rows: Sequence[Row], name: str, number: int) -> float:
    return fmean(row.accuracy for row in rows if row.set == name and row.round == number)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
