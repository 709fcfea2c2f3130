"""The cells of an evaluation's table: one model on one test set by one protocol, over the seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.evaluation.settings import Protocol
from coldfuse.evaluation.significance import Counts, count_wins
from coldfuse.evaluation.suites import Suite
from coldfuse.evaluation.trials import Place, Plan
from coldfuse.evaluation.values import EvaluatedData, Scored, TestScore, Trial
from coldfuse.training.tasks import find_task


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model on one test set by one protocol."""

    model: int
    """Place of the model in the plan."""
    suite: Suite
    """Data set."""
    test: str
    """Name of the test set in it."""
    protocol: Protocol
    """How it was scored."""
    scores: tuple[TestScore, ...]
    """Score by seed."""

    @property
    def data(self) -> str:
        """What people call the test set."""
        return data_name(self.suite.name, self.test)

    @property
    def mean(self) -> float:
        """Mean score over the seeds."""
        return fmean(score.value for score in self.scores)


def cells_of(plan: Plan, trials: Mapping[Place, Trial]) -> list[Cell]:
    """Return the cells of all trials: by protocol, data set, test set and model."""
    return [cell for protocol in protocols_in(plan) for cell in _of_protocol(plan, trials, protocol)]


def protocols_in(plan: Plan) -> list[Protocol]:
    """Return all protocols that some data set is scored by."""
    found = [protocol for suite in plan.suites for protocol in plan.protocols_of(suite)]
    return sorted(dict.fromkeys(found), key=[*plan.protocols, *found].index)


def _of_protocol(plan: Plan, trials: Mapping[Place, Trial], protocol: Protocol) -> Iterator[Cell]:
    for number, suite in enumerate(plan.suites):
        if protocol not in plan.protocols_of(suite):
            continue
        by_model = [
            [trials[Place(model=model, suite=number, protocol=protocol, seed=s)] for s in plan.seeds_of(protocol)]
            for model in range(len(plan.models))
        ]
        for place, score in enumerate(by_model[0][0].scores):
            for model, own in enumerate(by_model):
                scores = tuple(trial.scores[place] for trial in own)
                yield Cell(model=model, suite=suite, test=score.test, protocol=protocol, scores=scores)


def scored(cells: Sequence[Cell], plan: Plan) -> tuple[Scored, ...]:
    """Return mean and spread of each cell, and how it differs from the data set's first test set."""
    first: dict[tuple[int, str, Protocol], Cell] = {}
    rows = []
    for cell in cells:
        own = first.setdefault((cell.model, cell.suite.name, cell.protocol), cell)
        values = tuple(score.value for score in cell.scores)
        rows.append(
            Scored(
                model=plan.models[cell.model].name, data=cell.data, protocol=cell.protocol.name, scores=values,
                mean=cell.mean, spread=stdev(values) if len(values) > 1 else None,
                change=None if own is cell else cell.mean - own.mean,
            )
        )  # fmt: skip
    return tuple(rows)


def data_in(cells: Sequence[Cell]) -> tuple[EvaluatedData, ...]:
    """Return the test sets, in the order of the cells."""
    first = {cell.data: cell for cell in reversed(cells)}
    return tuple(_evaluated(first[name]) for name in dict.fromkeys(cell.data for cell in cells))


def _evaluated(cell: Cell) -> EvaluatedData:
    suite, score = cell.suite, cell.scores[0]
    if score.metric is not None:  # of the harness, which has brought the examples
        (asked,) = suite.tests.values()
        num_test, digest = len(score.outcomes or ()), sha256(canonical_json([asked.digest(), cell.test]))
        metric, higher = score.metric, score.higher_is_better is not False
    else:
        task, examples = find_task(suite.task), suite.tests[cell.test]
        num_test, digest = len(examples), examples.digest()
        metric, higher = "right answers" if suite.is_edit else task.metric, task.higher_is_better
    return EvaluatedData(
        name=cell.data, task=suite.task, metric=metric, higher_is_better=higher, digest=digest, num_test=num_test,
        num_train=0 if suite.train is None else len(suite.train),
    )  # fmt: skip


def wins(before: Cell, after: Cell) -> Counts | None:
    """Count on which examples each of two models is better; None where the metric says nothing of an example."""
    first = [score.outcomes for score in before.scores if score.outcomes is not None]
    second = [score.outcomes for score in after.scores if score.outcomes is not None]
    if len(first) < len(before.scores) or len(second) < len(after.scores):
        return None
    return count_wins(first, second)


def net_wins(before: Cell, after: Cell) -> list[int]:
    """Return by how many examples more the second of two models is better than worse, seed by seed."""
    found = []
    for one, other in zip(before.scores, after.scores, strict=True):
        counts = count_wins([one.outcomes or ()], [other.outcomes or ()])
        found.append(counts.only_after - counts.only_before)
    return found


def data_name(suite: str, test: str) -> str:
    """Return what people call a test set within its data set.

    >>> data_name("sst2", ""), data_name("sst2", "imdb")
    ('sst2', 'sst2 → imdb')
    """
    return f"{suite} → {test}" if test else suite
