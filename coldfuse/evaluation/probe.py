"""The linear probe of a model folder on tasks, and scorers: what a search maximises and a quality gate compares by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Protocol

import torch
from torch import Tensor

from coldfuse.data.dataset import TextDataset, halves
from coldfuse.errors import UserInputError
from coldfuse.training.compute import compute_threads, pick_device
from coldfuse.training.encoding import encode_all, tokenize
from coldfuse.training.head import fit_linear_probe
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer


class Scorer(Protocol):
    """Says how good a model is."""

    def __call__(self, model_dir: Path, /) -> float:
        """Return the score of the model in a folder: a finite number, higher is better, the same for the same model."""


@dataclass(frozen=True, kw_only=True)
class ProbeScorer:
    """Scores by the mean accuracy of linear probes, one a task.

    Nothing is random: the same folder and number of threads give the same score.
    """

    tasks: Sequence[tuple[TextDataset, TextDataset]]
    """Data that each probe is fitted on, and data that it is tested on."""
    max_length: int = 128
    """Tokens of a text that are read; the model's own limit applies as well."""
    threads: int | None = None
    """Processor threads; unset leaves torch's choice."""

    def __call__(self, model_dir: Path, /) -> float:
        """Return the mean accuracy over the tasks."""
        results = linear_probes(model_dir, self.tasks, max_length=self.max_length, threads=self.threads)
        return fmean(result.accuracy for result in results)


def probe_scorer(*data: TextDataset) -> ProbeScorer:
    """Score by probes that are fitted on one half of each task's data and tested on the other."""
    return ProbeScorer(tasks=tuple(halves(task) for task in data))


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """How well a linear classifier on the frozen body does."""

    accuracy: float
    """Share of the test examples that it gets right."""
    num_train: int
    """Examples that the classifier was fitted on."""
    num_test: int
    """Examples that it was tested on."""


def linear_probe(
    model_dir: Path,
    train: TextDataset,
    test: TextDataset,
    *,
    max_length: int = 128,
    batch_size: int = 64,
    threads: int | None = None,
) -> ProbeResult:
    """Probe a model on one task; see `linear_probes`."""
    return linear_probes(model_dir, [(train, test)], max_length=max_length, batch_size=batch_size, threads=threads)[0]


def linear_probes(
    model_dir: Path,
    tasks: Sequence[tuple[TextDataset, TextDataset]],
    *,
    max_length: int = 128,
    batch_size: int = 64,
    threads: int | None = None,
) -> list[ProbeResult]:
    """Fit logistic regression on the frozen body's features of each task, and test it; the model is loaded once.

    Nothing is random: the same folder, data and number of threads give the same accuracy.

    Args:
        model_dir: The model's folder.
        tasks: Of each task the data to fit the classifier on, and those to test it on.
        max_length: Tokens of a text that are read; the model's own limit applies as well.
        batch_size: Texts that pass through the body at once.
        threads: Processor threads; unset leaves torch's choice.

    Raises:
        UserInputError: The folder holds no model, or a task's two data sets have different classes.
    """
    for train, test in tasks:
        if train.label_names != test.label_names:
            raise UserInputError(
                f"train and test have different classes: {train.label_names[:8]} and {test.label_names[:8]}; read the "
                "test file with the training file's label_names"
            )
    device = pick_device("auto")
    with compute_threads(threads):
        body, tokenizer = load_body(model_dir).to(device), load_tokenizer(model_dir)
        intake = find_intake(body, tokenizer, max_length=max_length)

        def features_and_labels(data: TextDataset) -> tuple[Tensor, Tensor]:
            texts = tokenize(tokenizer, data, intake)
            return encode_all(body, texts, batch_size=batch_size), torch.tensor(data.labels, device=device)

        results = []
        for train, test in tasks:
            head = fit_linear_probe(*features_and_labels(train), num_classes=train.num_classes)
            accuracy = head.accuracy(*features_and_labels(test))
            results.append(ProbeResult(accuracy=accuracy, num_train=len(train), num_test=len(test)))
    return results
