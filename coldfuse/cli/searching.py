"""Searches that look at data, with torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from coldfuse.cli.data_words import columns_of, text_columns_of
from coldfuse.cli.options.fuse import Evidence
from coldfuse.data.dataset import TextDataset
from coldfuse.data.reading import read_dataset, read_texts
from coldfuse.engine.execution import Executor
from coldfuse.engine.folder_fusion import FolderFusion
from coldfuse.errors import UserInputError
from coldfuse.evaluation.probe import probe_scorer
from coldfuse.search.learned import learn
from coldfuse.search.methods import GreedySoup, LearnedSoup
from coldfuse.search.resident import Task
from coldfuse.search.scored import greedy_soup, parse_grid, tune
from coldfuse.search.trials import Found, Trial
from coldfuse.training.head import read_head


def search(
    request: FolderFusion,
    executor: Executor,
    evidence: Evidence,
    *,
    memory_bytes: int | None,
    callback: Callable[[Trial], None],
    show: Callable[[TextDataset], TextDataset],
) -> Found:
    """Run the search that a request asks for.

    Args:
        request: The fusion, whose combiner is a search or one of whose parameters is tuned.
        executor: Runs the fusions.
        evidence: Data and heads that the search looks at.
        memory_bytes: Memory that the search may take.
        callback: Called with every trial.
        show: Called with every data set once it is read; returns it.
    """
    combiner = request.recipe.combiner
    if evidence.tune is None and not isinstance(combiner, GreedySoup):
        tasks = [
            replace(task, data=show(task.data))
            for task in _tasks(evidence, with_labels=isinstance(combiner, LearnedSoup))
        ]
        return learn(request, tasks, executor, memory_bytes=memory_bytes, callback=callback)
    if evidence.head:
        raise UserInputError("--head: this search scores models by linear probes that it fits; leave --head out")
    key, values = parse_grid(evidence.tune) if evidence.tune is not None else ("", [])
    score = probe_scorer(*(show(_labelled(evidence, path)) for path in evidence.data))
    if key:
        return tune(request, key, values, score, executor, callback=callback)
    return greedy_soup(request, score, executor, callback=callback)


def _labelled(evidence: Evidence, path: str, label_names: tuple[str, ...] | None = None) -> TextDataset:
    return read_dataset(path, **columns_of(evidence.columns), label_names=label_names)


def _tasks(evidence: Evidence, *, with_labels: bool) -> list[Task]:
    """Read each task's texts, and its head or the labels that one is fitted to."""
    if not evidence.head:
        return [Task(data=_labelled(evidence, path)) for path in evidence.data]
    tasks = []
    for path, head_path in zip(evidence.data, evidence.head, strict=True):
        head, labels = read_head(head_path)
        if with_labels:
            data = _labelled(evidence, path, labels)
        else:
            data = read_texts(path, **text_columns_of(evidence.columns))
        tasks.append(Task(data=data, head=head))
    return tasks
