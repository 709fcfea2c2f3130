"""A trained model on test examples: the task's metric, and a score of every example by which models are compared.

    a choice between classes, pictures    1 where it is right, else 0
    several labels                        share of the labels that are said rightly
    numbers                               the distance from the number, below zero
    words with tags                       share of the words that are tagged rightly
    questions                             the question's own F1 or exact match
    language models                       log-probability of the whole document, whatever its tokens are
    edits                                 1 where the answer is what the row asks for, else 0

The metric itself is always the task's own. Perplexity is exp(−Σ log p / number of tokens) over all documents, each read
by itself. One that is longer than the window goes on in another, which sees nothing of what came before but, of a model
that reads from left to right, one token: so its perplexity is higher than with a longer window. Of masked models with
other tokenizers other words are hidden: only those that share one are to be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coldfuse.core.words import plural
from coldfuse.errors import UserInputError
from coldfuse.evaluation.measured import Measured, Outcomes
from coldfuse.evaluation.suites import Suite
from coldfuse.training.classifying import logits_of
from coldfuse.training.compute import compute_threads
from coldfuse.training.scoring import take_features, total_loss
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.editing import answers_of
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.scoring import affordable_tokens, run_over
from coldfuse.training.tasks.task import Feature, Task, TaskModel

_PERPLEXITY = "perplexity"
_MOST_NATS = 700.0


def measure(task: Task, loaded: TaskModel, examples: Any, features: Sequence[Feature] | None = None) -> Measured:
    """Score a model on test examples, example by example where that can be.

    Args:
        task: What the examples are of.
        loaded: The model, with its head.
        examples: Test examples.
        features: What the task has encoded of them; None: they are encoded here.

    Raises:
        UserInputError: The model gives no numbers, or fails on the examples.
    """
    if task.metric == _PERPLEXITY:
        return _documents(task, loaded, examples)
    if task.name == "edit":
        return _share_right(task, loaded, examples)
    if features is None:
        features = task.encode(loaded, examples)
    value = float(task.score(loaded, examples, features))
    if not math.isfinite(value):
        raise UserInputError(f"the model's {task.metric} is {value}: its weights are broken, fetch or make it anew")
    by_example = _BY_EXAMPLE.get(task.name)
    outcomes = None if by_example is None else tuple(by_example(task, loaded, examples, features))
    return Measured(value=value, outcomes=outcomes)


def _share_right(task: Task, loaded: TaskModel, examples: Any) -> Measured:
    """Score a part of an edit's suite by the share of the answers that are right."""
    outcomes = tuple(_edits(task, loaded, examples, ()))
    return Measured(value=sum(outcomes) / len(outcomes), outcomes=outcomes)


def load_probe(task: Task, folder: Path, train: Any, settings: TrainingSettings) -> TaskModel:
    """Load a model with a head for a task that has been fitted to what its frozen body makes of training examples.

    Args:
        task: The task.
        folder: The model's folder.
        train: Examples that the head is fitted on; a task without a head of its own has none to fit.
        settings: How many tokens are read, and where.

    Raises:
        UserInputError: The folder holds no model for the task.
    """
    loaded = task.load(folder, train, settings)
    if task.has_private_head:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a head of another kind than a linear layer begins at random
            task.start_head(loaded, task.encode(loaded, train))
    return loaded


def score_folder(folder: Path, suites: Sequence[Suite], *, threads: int | None = None) -> list[Outcomes]:
    """Return how well a model does on each test example of suites that have one test set each: what a gate compares.

    Nothing is random: the same model, suite and number of threads give the same outcomes.

    Args:
        folder: The model's folder.
        suites: The suites.
        threads: Processor threads; None: torch's own choice.

    Raises:
        UserInputError: The folder holds no model for a suite's task, or a broken one.
    """
    with compute_threads(threads), torch.no_grad():
        return [_outcomes(folder, suite) for suite in suites]


def _outcomes(folder: Path, suite: Suite) -> Outcomes:
    task, test = find_task(suite.task), suite.test
    loaded = load_probe(task, folder, test if suite.train is None else suite.train, TrainingSettings(dropout=0.0))
    loaded.model.eval()
    if task.metric == _PERPLEXITY:
        found = _documents(task, loaded, test).outcomes
    else:
        by_example = _BY_EXAMPLE.get(task.name)
        found = None if by_example is None else tuple(by_example(task, loaded, test, task.encode(loaded, test)))
    if found is None:
        raise UserInputError(f"suite {suite.name}: {task.name} says of no single example how well a model does on it")
    outcomes = np.array(found, np.float64)
    return np.where(np.isnan(outcomes), -np.inf, outcomes)


def _documents(task: Task, loaded: TaskModel, examples: Any) -> Measured:
    """Score language models by the log-probability of each document."""
    whole: Any = task
    if is_dataclass(task) and any(field.name == "packed" for field in fields(task)):
        whole = replace(task, packed=False)  # no document is read after another
    at_once = affordable_tokens(loaded.model)
    losses, counts, num_long = [], [], 0
    for index in range(len(examples)):
        try:
            features = whole.encode(loaded, examples.take([index]))
        except UserInputError:  # nothing in it can be predicted
            features = []
        nats, count = total_loss(loaded, features, tokens_at_once=at_once) if features else (0.0, 0)
        if not math.isfinite(nats):
            raise UserInputError("the model's probabilities are no numbers: its weights are broken, fetch it anew")
        losses.append(nats)
        counts.append(count)
        num_long += len(features) > 1
    if not sum(counts):
        task.encode(loaded, examples)  # says what is lacking
        raise UserInputError("the documents have no token that can be predicted")
    mean = math.fsum(losses) / sum(counts)
    notes = [f"{plural(sum(counts), 'token')} predicted"]
    if num_long:
        notes.append(
            f"{num_long:,} of {plural(len(examples), 'document')} are longer than the window of "
            f"{loaded.processor.intake.max_length:,} tokens: the rest is read in others, without what came before"
        )
    return Measured(value=math.exp(min(mean, _MOST_NATS)), outcomes=tuple(-loss for loss in losses), notes=tuple(notes))


def _alone(task: Task, loaded: TaskModel, examples: Any, features: Sequence[Feature]) -> list[float]:
    """Score every example alone by the metric, which of a single one is right or wrong."""
    return [float(task.score(loaded, examples.take([i]), take_features(features, [i]))) for i in range(len(examples))]


def _questions(task: Task, loaded: TaskModel, examples: Any, features: Sequence[Feature]) -> list[float]:
    """Score every question alone: it has one window or several, which count their question from 0."""
    windows: list[list[Feature]] = [[] for _ in range(len(examples))]
    for feature in features:
        number: Any = feature["example"]
        windows[number].append({**feature, "example": 0})
    return [float(task.score(loaded, examples.take([i]), own)) for i, own in enumerate(windows)]


def _classes(_: Task, loaded: TaskModel, examples: Any, features: Sequence[Feature]) -> list[float]:
    said = logits_of(loaded, features).argmax(dim=1).tolist()
    return [float(one == label) for one, label in zip(said, examples.labels, strict=True)]


def _labels(_: Task, loaded: TaskModel, examples: Any, features: Sequence[Feature]) -> list[float]:
    said = (logits_of(loaded, features) > 0).tolist()
    return [
        sum(bool(want) == one for want, one in zip(target, row, strict=True)) / len(row)
        for target, row in zip(examples.targets, said, strict=True)
    ]


def _numbers(_: Task, loaded: TaskModel, examples: Any, features: Sequence[Feature]) -> list[float]:
    said = logits_of(loaded, features).squeeze(1).tolist()
    return [-abs(one - target) for one, target in zip(said, examples.targets, strict=True)]


def _words(_: Task, loaded: TaskModel, examples: Any, features: Sequence[Feature]) -> list[float]:
    """Return the share of each sentence's words that are tagged rightly; a word without a token is not."""
    right = [0] * len(examples)
    for indices, batch, output in run_over(loaded, features):
        hits = (output.logits.argmax(-1) == batch["labels"]) & (batch["labels"] != NO_LABEL)
        for index, row in zip(indices, hits.sum(dim=1).tolist(), strict=True):
            number: Any = features[index]["example"]
            right[number] += row
    return [count / len(sentence.words) for count, sentence in zip(right, examples.rows, strict=True)]


def _edits(_: Task, loaded: TaskModel, examples: Any, features: Sequence[Feature]) -> list[float]:  # noqa: ARG001
    return [float(one.is_right) for one in answers_of(loaded, examples.rows)]


_BY_EXAMPLE: dict[str, Callable[[Task, TaskModel, Any, Sequence[Feature]], list[float]]] = {
    "text-classification": _classes,
    "multi-label-classification": _labels,
    "regression": _numbers,
    "token-classification": _words,
    "question-answering": _questions,
    "text2text-generation": _alone,
    "image-classification": _alone,
    "edit": _edits,
}
"""How examples are scored, by the task's name; of others only the metric is known."""
