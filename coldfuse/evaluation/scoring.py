"""Scores: one number for a model folder, higher is better. Searches maximise it, and a quality gate compares by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Protocol

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError


class Score(Protocol):
    """How good a model is."""

    def __call__(self, model_dir: Path, /) -> float:
        """Return the score of the model in a folder: a finite number, higher is better, the same for the same model."""


@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """The mean accuracy of linear probes, one a task: each is fitted on the task's first data and tested on the second.

    Nothing is random: the same folder and number of threads give the same score.
    """

    tasks: Sequence[tuple[TextDataset, TextDataset]]
    """The data that a probe is fitted on, and those that it is tested on."""
    max_length: int = 128
    """Tokens of a text that are read; the model's own limit applies as well."""
    threads: int | None = None
    """Processor threads; unset leaves torch's choice."""

    def __call__(self, model_dir: Path, /) -> float:
        """Return the mean accuracy over the tasks."""
        from coldfuse.evaluation.probe import linear_probes

        results = linear_probes(model_dir, self.tasks, max_length=self.max_length, threads=self.threads)
        return fmean(result.accuracy for result in results)


def probe_score(*data: TextDataset) -> ProbeScore:
    """Score by probes that are fitted on one half of each task's data and tested on the other."""
    return ProbeScore(tasks=tuple(halves(task) for task in data))


def halves(data: TextDataset) -> tuple[TextDataset, TextDataset]:
    """Deal the examples of every class in turn to two parts; the first has the larger share of each, and every class.

    >>> parts = halves(TextDataset(texts=("a", "b", "c", "d"), labels=(0, 1, 0, 0), label_names=("no", "yes")))
    >>> [part.texts for part in parts]
    [('a', 'b', 'd'), ('c',)]
    """
    parts: tuple[list[int], list[int]] = ([], [])
    seen: Counter[int] = Counter()
    for index, label in enumerate(data.labels):
        parts[seen[label] % 2].append(index)
        seen[label] += 1
    if not parts[1]:
        raise UserInputError(f"{len(data)} examples of {len(seen)} classes are too few to set half of them apart")
    return data.take(parts[0]), data.take(parts[1])
