"""From trials to an evaluation: means and spread over the seeds, and each model against the first one.

Models are compared on the same examples, data set by data set, with Holm's adjustment over the data sets of a model and
protocol; and on all examples together, each once. Several seeds give an example its mean score, and add no example
(`significance`). So what a comparison says holds for these draws and orders, over other examples of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import add

from coldfuse.evaluation.cells import Cell, cells_of, data_in, net_wins, protocols_in, scored, wins
from coldfuse.evaluation.significance import Comparison, Verdict, compare
from coldfuse.evaluation.trials import Place, Plan
from coldfuse.evaluation.values import Compared, EvaluatedModel, Evaluation, Trial

_MOST_NOTES = 200
_MOST_CHARS = 2000


def report(plan: Plan, trials: Mapping[Place, Trial]) -> Evaluation:
    """Make an evaluation of all trials of a plan.

    Args:
        plan: What was scored.
        trials: What came of each trial.
    """
    cells = cells_of(plan, trials)
    return Evaluation(
        models=tuple(EvaluatedModel(name=model.name, digest=model.digest) for model in plan.models),
        data=data_in(cells), settings=_settings(plan), scores=scored(cells, plan),
        comparisons=tuple(_comparisons(plan, cells)), notes=_notes(plan, trials),
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


def _comparisons(plan: Plan, cells: Sequence[Cell]) -> Iterator[Compared]:
    for protocol in protocols_in(plan):
        own = [cell for cell in cells if cell.protocol == protocol]
        before = {cell.data: cell for cell in own if cell.model == 0}
        for model in range(1, len(plan.models)):
            after = [cell for cell in own if cell.model == model]
            pairs = [(cell, counts) for cell in after if (counts := wins(before[cell.data], cell)) is not None]
            results = compare([counts for _, counts in pairs])
            names = {"model": plan.models[model].name, "reference": plan.models[0].name, "protocol": protocol.name}
            nets = [net_wins(before[cell.data], cell) for cell, _ in pairs]
            rows = [
                _said(
                    result.unless_seeds_disagree(net),
                    names,
                    data=cell.data,
                    difference=cell.mean - before[cell.data].mean,
                )
                for (cell, _), result, net in zip(pairs, results, nets, strict=True)
            ]
            if len(once := _distinct([cell for cell, _ in pairs])) > 1:
                (pooled,) = compare([reduce(add, [pairs[place][1] for place in once])])
                by_seed = [sum(net) for net in zip(*(nets[place] for place in once), strict=True)]
                rows.append(_said(pooled.unless_seeds_disagree(by_seed), names, data=None, difference=None))
            is_same = plan.models[model].digest == plan.models[0].digest
            yield from map(_known_alike, rows) if is_same else rows


def _distinct(cells: Sequence[Cell]) -> list[int]:
    """Return the places of every test set once: examples that are tested on twice are no more examples."""
    digests = {data.name: data.digest for data in data_in(cells)}
    first = {digests[cell.data]: place for place, cell in reversed(list(enumerate(cells)))}
    return sorted(first.values())


def _said(result: Comparison, names: Mapping[str, str], *, data: str | None, difference: float | None) -> Compared:
    counts = result.counts
    return Compared(
        **names, data=data, difference=difference, num_examples=counts.num_examples, only_before=counts.only_before,
        only_after=counts.only_after, p=result.p, smallest_visible=result.smallest_visible,
        verdict=result.verdict.value, reason=result.reason,
    )  # fmt: skip


def _known_alike(compared: Compared) -> Compared:
    """Return what is said of a model and itself: no test is needed."""
    return compared.model_copy(update={"verdict": Verdict.ALIKE.value, "reason": "the same model, file for file"})


def _notes(plan: Plan, trials: Mapping[Place, Trial]) -> tuple[str, ...]:
    """Return what should be known of data and scores, each once."""
    notes = [note for suite in plan.suites for note in suite.shared]
    for place, trial in trials.items():
        suite = plan.suites[place.suite]
        where = f"{plan.models[place.model].name} on {suite.name}" if len(plan.models) > 1 else suite.name
        notes += [f"{suite.name}, {place.protocol.name}: {note}" for note in trial.notes]
        notes += [f"{where}: {note}" for score in trial.scores for note in score.notes]
        if any(score.outcomes is None for score in trial.scores) and len(plan.models) > 1:
            notes.append(f"{suite.name}: its metric gives no score of each example, so no test compares the models")
    return tuple(note[:_MOST_CHARS] for note in list(dict.fromkeys(notes))[:_MOST_NOTES])
