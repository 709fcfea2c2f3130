"""From trials to an evaluation: means and spread over the seeds, and each model against the first one.

Models are compared on the same examples, data set by data set, with Holm's adjustment over the data sets of a model and
protocol; and on all examples together. Several seeds give an example its mean score, and add no example
(`significance`). So what a comparison says holds for these draws and orders, over other examples of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from statistics import fmean, stdev

from coldfuse.evaluation.settings import Protocol
from coldfuse.evaluation.significance import Comparison, Counts, compare, count_wins
from coldfuse.evaluation.trials import Place, Plan
from coldfuse.evaluation.values import (
    Compared,
    EvaluatedData,
    EvaluatedModel,
    Evaluation,
    Scored,
    TestScore,
    Trial,
)
from coldfuse.training.tasks import find_task

_MOST_NOTES = 200
_MOST_CHARS = 2000


@dataclass(frozen=True)
class _Cell:
    """One model on one test set by one protocol: places, and what its trials gave."""

    model: int
    data: str
    protocol: Protocol
    scores: tuple[TestScore, ...]

    @property
    def mean(self) -> float:
        return fmean(score.value for score in self.scores)


def report(plan: Plan, trials: Mapping[Place, Trial]) -> Evaluation:
    """Make an evaluation of all trials of a plan.

    Args:
        plan: What was scored.
        trials: What came of each trial.
    """
    cells = list(_cells(plan, trials))
    return Evaluation(
        models=tuple(EvaluatedModel(name=model.name, digest=model.digest) for model in plan.models),
        data=tuple(_data(plan)),
        settings=_settings(plan),
        scores=tuple(
            Scored(
                model=plan.models[cell.model].name, data=cell.data, protocol=cell.protocol.name,
                scores=(values := tuple(score.value for score in cell.scores)), mean=cell.mean,
                spread=stdev(values) if len(values) > 1 else None,
            )
            for cell in cells
        ),
        comparisons=tuple(_comparisons(plan, cells)),
        notes=_notes(plan, trials),
    )  # fmt: skip


def data_name(suite: str, test: str) -> str:
    """Return what people call a test set within its data set.

    >>> data_name("sst2", ""), data_name("sst2", "imdb")
    ('sst2', 'sst2 → imdb')
    """
    return f"{suite} → {test}" if test else suite


def _cells(plan: Plan, trials: Mapping[Place, Trial]) -> Iterator[_Cell]:
    for protocol in plan.protocols:
        for number, suite in enumerate(plan.suites):
            for place, test in enumerate(suite.tests):
                for model in range(len(plan.models)):
                    scores = tuple(
                        trials[Place(model=model, suite=number, protocol=protocol, seed=seed)].scores[place]
                        for seed in plan.seeds_of(protocol)
                    )
                    yield _Cell(model, data_name(suite.name, test), protocol, scores)


def _data(plan: Plan) -> Iterator[EvaluatedData]:
    for suite in plan.suites:
        task = find_task(suite.task)
        for test, examples in suite.tests.items():
            yield EvaluatedData(
                name=data_name(suite.name, test), task=suite.task, metric=task.metric,
                higher_is_better=task.higher_is_better, num_train=0 if suite.train is None else len(suite.train),
                num_test=len(examples), digest=examples.digest(),
            )  # fmt: skip


def _settings(plan: Plan) -> dict[str, str]:
    settings = plan.settings
    said = {"max_length": str(settings.max_length), "threads": str(settings.threads), "device": settings.device}
    if any(protocol.is_random for protocol in plan.protocols):
        said["seeds"] = ",".join(map(str, plan.seeds))
    for protocol in plan.protocols:
        if protocol.kind == "fine-tuned":
            said[f"{protocol.name}: epochs"] = str(settings.epochs(protocol))
            said |= {"learning_rate": str(settings.learning_rate), "batch_size": str(settings.batch_size)}
    return said


def _comparisons(plan: Plan, cells: Sequence[_Cell]) -> Iterator[Compared]:
    for protocol in plan.protocols:
        own = [cell for cell in cells if cell.protocol == protocol]
        before = {cell.data: cell for cell in own if cell.model == 0}
        for model in range(1, len(plan.models)):
            after = [cell for cell in own if cell.model == model]
            pairs = [(cell, counts) for cell in after if (counts := _count(before[cell.data], cell)) is not None]
            results = compare([counts for _, counts in pairs])
            names = {"model": plan.models[model].name, "reference": plan.models[0].name, "protocol": protocol.name}
            for (cell, _), result in zip(pairs, results, strict=True):
                yield _said(result, names, data=cell.data, difference=cell.mean - before[cell.data].mean)
            if len(pairs) > 1:
                (pooled,) = compare([reduce(add, [counts for _, counts in pairs])])
                yield _said(pooled, names, data=None, difference=None)


def _count(before: _Cell, after: _Cell) -> Counts | None:
    first = [score.outcomes for score in before.scores if score.outcomes is not None]
    second = [score.outcomes for score in after.scores if score.outcomes is not None]
    if len(first) < len(before.scores) or len(second) < len(after.scores):
        return None
    return count_wins(first, second)


def _said(result: Comparison, names: Mapping[str, str], *, data: str | None, difference: float | None) -> Compared:
    counts = result.counts
    return Compared(
        **names, data=data, difference=difference, num_examples=counts.num_examples, only_before=counts.only_before,
        only_after=counts.only_after, p=result.p, smallest_visible=result.smallest_visible,
        verdict=result.verdict.value, reason=result.reason,
    )  # fmt: skip


def _notes(plan: Plan, trials: Mapping[Place, Trial]) -> tuple[str, ...]:
    """Return what should be known of data and scores, each once."""
    notes = []
    for place, trial in trials.items():
        suite = plan.suites[place.suite]
        where = f"{plan.models[place.model].name} on {suite.name}" if len(plan.models) > 1 else suite.name
        notes += [f"{suite.name}, {place.protocol.name}: {note}" for note in trial.notes]
        notes += [f"{where}: {note}" for score in trial.scores for note in score.notes]
        if any(score.outcomes is None for score in trial.scores) and len(plan.models) > 1:
            notes.append(f"{suite.name}: its metric gives no score of each example, so no test compares the models")
    return tuple(note[:_MOST_CHARS] for note in list(dict.fromkeys(notes))[:_MOST_NOTES])
