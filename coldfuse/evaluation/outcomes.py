"""A trained model on test examples: the task's metric, and a score of every example by which models are compared.

    a choice between classes, pictures    1 where it is right, else 0
    several labels                        share of the labels that are said rightly
    numbers                               the distance from the number, below zero
    words with tags                       share of the words that are tagged rightly
    questions                             the question's own F1 or exact match
    language models                       log-probability of the whole document, whatever its tokens are

The metric itself is always the task's own. Perplexity is exp(−Σ log p / number of tokens) over all documents, each read
by itself. One that is longer than the window goes on in another, which sees nothing of what came before but, of a model
that reads from left to right, one token: so its perplexity is higher than with a longer window. Of masked models with
other tokenizers other words are hidden: only those that share one are to be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from coldfuse.core.words import plural
from coldfuse.errors import UserInputError
from coldfuse.training.classifying import logits_of
from coldfuse.training.scoring import take_features, total_loss
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.scoring import affordable_tokens, run_over
from coldfuse.training.tasks.task import Feature, Task, TaskModel

_PERPLEXITY = "perplexity"
_MOST_NATS = 700.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A score, and what it is made of."""

    value: float
    """Value of the task's metric."""
    outcomes: tuple[float, ...] | None
    """Score of each example, higher is better; None where the task gives none."""
    notes: tuple[str, ...] = ()
    """What should be known of it."""
    metric: str | None = None
    """What is measured, where the task does not say it."""
    higher_is_better: bool | None = None
    """Whether a higher value is a better one, where the task does not say it."""


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
    if features is None:
        features = task.encode(loaded, examples)
    value = float(task.score(loaded, examples, features))
    if not math.isfinite(value):
        raise UserInputError(f"the model's {task.metric} is {value}: its weights are broken, fetch or make it anew")
    by_example = _BY_EXAMPLE.get(task.name)
    outcomes = None if by_example is None else tuple(by_example(task, loaded, examples, features))
    return Measured(value=value, outcomes=outcomes)


def outcomes_of(task: Task, loaded: TaskModel, examples: Any) -> tuple[float, ...] | None:
    """Return the score of each example alone, higher is better, without the metric; None where the task gives none.

    Raises:
        UserInputError: The model fails on the examples.
    """
    if task.metric == _PERPLEXITY:
        return _documents(task, loaded, examples).outcomes
    by_example = _BY_EXAMPLE.get(task.name)
    return None if by_example is None else tuple(by_example(task, loaded, examples, task.encode(loaded, examples)))


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


_BY_EXAMPLE: dict[str, Callable[[Task, TaskModel, Any, Sequence[Feature]], list[float]]] = {
    "text-classification": _classes,
    "multi-label-classification": _labels,
    "regression": _numbers,
    "token-classification": _words,
    "question-answering": _questions,
    "text2text-generation": _alone,
    "image-classification": _alone,
}
"""How examples are scored, by the task's name; of others only the metric is known."""
