"""Compare fusion methods on real data: train, fuse by each method, score, and say it in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from coldfuse.experiments.fusion_presets import Preset
from coldfuse.experiments.fusion_round import Round, Setting, attacked, prepare
from coldfuse.experiments.fusion_scores import Outcome, best, single_accuracies
from coldfuse.training.compute import compute_threads

CLEAN = "clean"
"""Name of the round without hostile contributions."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where an experiment reads and writes."""

    data: Path
    """Folder that has one for each task."""
    base: Path
    """Model folder that all start from."""
    work: Path
    """Folder that keeps models and scores from run to run."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method's scores."""

    method: str
    attack: str
    by_seed: Sequence[Outcome]

    @property
    def means(self) -> list[float]:
        """Mean accuracy for each seed."""
        return [outcome.mean for outcome in self.by_seed]


def run_experiment(
    preset: Preset,
    folders: Folders,
    *,
    seeds: Sequence[int],
    threads: int,
    callback: Callable[[str], None],
) -> list[Row]:
    """Run all methods on all seeds.

    Args:
        preset: What is trained, and what is compared.
        folders: Where the data and the base lie, and where models and scores go.
        seeds: Each decides the examples, their order, dropout, and who gets which.
        threads: Number of threads of torch, and of the fusion.
        callback: Called with a line about each result as it comes.
    """
    found: dict[tuple[str, str], list[Outcome]] = {}
    with compute_threads(threads):
        for seed in seeds:
            setting = Setting(
                data=folders.data, base=folders.base, tasks=preset.tasks, sizes=preset.sizes, training=preset.training,
                parties=preset.parties,
            )  # fmt: skip
            given = prepare(setting, folders.work, seed=seed, callback=callback if seed == seeds[0] else None)
            for attack, method, outcome in _outcomes(given, preset, threads):
                callback(f"seed {seed}, {attack}, {method}: {outcome.mean:.1%} by {outcome.recipe}")
                found.setdefault((attack, method), []).append(outcome)
    return [Row(method=method, attack=attack, by_seed=by_seed) for (attack, method), by_seed in found.items()]


def _outcomes(given: Round, preset: Preset, threads: int) -> Iterator[tuple[str, str, Outcome]]:
    single = single_accuracies(given)
    if preset.parties is not None:
        single = {given.scored[0].name: fmean(single.values())}
    yield CLEAN, "base and linear head", Outcome(recipe="", accuracy=given.probe)
    yield CLEAN, "single models", Outcome(recipe="", accuracy=single)
    for attack in (CLEAN, *preset.attacks):
        spoilt = given if attack == CLEAN else attacked(given, attack, num_hostile=preset.num_hostile)
        for method, lines in preset.methods.items():
            yield attack, method, best(spoilt, lines, threads=threads)


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return everything that was found."""
    return [asdict(row) for row in rows]


def as_table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table, in percent: the mean, its spread over seeds, and what is above `mean`."""
    attacks = list(dict.fromkeys(row.attack for row in rows))
    return _by_attack(rows, attacks) if len(attacks) > 1 else _by_task(rows)


def _by_task(rows: Sequence[Row]) -> list[str]:
    tasks = list(rows[0].by_seed[0].accuracy)
    baseline = next((row.means for row in rows if row.method == "mean"), None)
    heads = ["method", "mean accuracy", "± over seeds", "above the mean", *(tasks if len(tasks) > 1 else []), "chosen"]
    lines = [_line(heads), _line(["---", *["---:"] * (len(heads) - 2), "---"])]
    for row in rows:
        gain = f"{100 * (fmean(row.means) - fmean(baseline)):+.1f}" if baseline else ""
        each = [_percent(fmean(o.accuracy[task] for o in row.by_seed)) for task in tasks] if len(tasks) > 1 else []
        lines.append(_line([row.method, _percent(fmean(row.means)), _spread(row.means), gain, *each, _chosen(row)]))
    return lines


def _by_attack(rows: Sequence[Row], attacks: Sequence[str]) -> list[str]:
    found: Mapping[tuple[str, str], Row] = {(row.method, row.attack): row for row in rows}
    lines = [_line(["method", *attacks]), _line(["---", *["---:"] * len(attacks)])]
    for method in dict.fromkeys(row.method for row in rows):
        cells = [found.get((method, attack)) for attack in attacks]
        texts = [f"{_percent(fmean(cell.means))} ± {_spread(cell.means)}" if cell else "" for cell in cells]
        lines.append(_line([method, *texts]))
    return lines


def _chosen(row: Row) -> str:
    return "; ".join(dict.fromkeys(f"`{outcome.recipe}`" for outcome in row.by_seed if outcome.recipe))


def _spread(values: Sequence[float]) -> str:
    return f"{100 * stdev(values):.1f}" if len(values) > 1 else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
