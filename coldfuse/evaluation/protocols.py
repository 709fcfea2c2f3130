"""The protocols: what is made of a model before it is scored.

- probe: the head that fits best on the unchanged body (ColD-Frozen, arXiv 2212.01378, section 4)
- fine-tuned: body and head trained as a node trains them (ColD); the best epoch is chosen on a part of the training
  examples, never on the test
- perplexity: nothing; a language model as its files have it
- edit: nothing; a model that answers, as its files have it

With `shots`, probe and fine-tuned see only so many labelled examples, drawn by the seed, one of each class first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from coldfuse.core.words import plural
from coldfuse.errors import UserInputError
from coldfuse.evaluation.harness import run_harness
from coldfuse.evaluation.measured import Measured
from coldfuse.evaluation.outcomes import load_probe, measure
from coldfuse.evaluation.settings import Protocol, ScoringSettings
from coldfuse.evaluation.suites import Suite
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.classifying import EncodedTexts, squared_error
from coldfuse.training.compute import compute_threads, pick_device
from coldfuse.training.feature_cache import FeatureCache
from coldfuse.training.fine_tuning import training_run
from coldfuse.training.frozen import Passing
from coldfuse.training.head import LinearHead, Loss, entropy
from coldfuse.training.job import TrainingJob, TrainingSettings
from coldfuse.training.model import Classifier
from coldfuse.training.schedule import derive_seed
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import Feature, Task, TaskModel

_FEWEST_APART = 10
"""Labels from which on a part of them chooses the best epoch; with fewer all of them do, as none can be spared."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that is scored."""

    name: str
    """What its user calls it."""
    folder: Path
    """Where it lies."""
    digest: str
    """Digest of the files that decide what it does."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What came of a model by a protocol."""

    num_train: int
    """Examples that something was fitted to."""
    measured: Mapping[str, Measured]
    """Score on each test set."""
    notes: tuple[str, ...] = ()
    """What should be known."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a model is scored, and where what was computed is kept."""

    settings: ScoringSettings
    """What decides the scores."""
    cache: FeatureCache | None = None
    """Features of frozen bodies that are kept; None keeps nothing."""
    checkpoint: Path | None = None
    """File from which a killed fine-tuning goes on; None keeps none."""


def score_model(model: Model, suite: Suite, protocol: Protocol, *, seed: int, scoring: Scoring) -> Scores:
    """Score a model on a data set by a protocol.

    Killed and called again it gives the same scores; on a CPU with the same number of threads they are the same bits.

    Args:
        model: The model.
        suite: What it is trained and tested on.
        protocol: What is trained.
        seed: Decides which labels are drawn, and the course of the training.
        scoring: How.

    Raises:
        UserInputError: The model cannot be scored on such data: it has no tokenizer, is of another kind, or is broken.
    """
    if suite.is_harness:
        (given,) = suite.tests.values()
        how = scoring.settings
        measured = run_harness(model.folder, given, threads=how.threads, device=how.device, max_length=how.max_length)
        return Scores(num_train=0, measured=measured)
    task = find_task(suite.task)
    if protocol.kind in ("perplexity", "edit"):
        return _as_it_is(model, suite, task, scoring)
    if suite.train is None:
        raise UserInputError(f"{suite.name}: a {protocol.kind} model needs examples to train on, and there are none")
    chosen = draw(suite.train, protocol.shots, seed=seed)
    notes = _lacking(suite.train, chosen, protocol.shots)
    if protocol.kind == "probe":
        measured = _probe(model, suite, task, chosen, scoring)
    else:
        settings = _training(scoring.settings, seed=seed, epochs=scoring.settings.epochs(protocol))
        job = _job(model, suite.train.take(chosen), task, seed=seed)
        measured = _fine_tuned(suite.tests, job, settings, checkpoint=scoring.checkpoint)
    return Scores(num_train=len(chosen), measured=measured, notes=notes)


def require_device(name: str) -> None:
    """Refuse a device that this machine has not, before anything is loaded. Raises `UserInputError`."""
    try:
        torch.zeros(1, device=pick_device(name))
    except (RuntimeError, AssertionError) as error:  # torch says the one or the other
        first_line = str(error).partition("\n")[0][:200]
        raise UserInputError(f"device {name!r} cannot be used: {first_line}") from error


def draw(examples: Any, count: int | None, *, seed: int) -> list[int]:
    """Draw labelled examples at random: one of each class first, as far as they go, and then any.

    Args:
        examples: What is drawn from.
        count: How many; None, or more than there are: all.
        seed: Decides which.

    Returns:
        Their places, in the order of the data.
    """
    everything = list(range(len(examples)))
    if count is None or count >= len(everything):
        return everything
    random.Random(derive_seed(seed, "shots", count)).shuffle(everything)  # noqa: S311 - a sample, not a secret
    labels = getattr(examples, "labels", ())
    first: dict[int, int] = {}
    for index in everything if labels else ():
        first.setdefault(labels[index], index)
    chosen = list(first.values())[:count]
    rest = [index for index in everything if index not in set(chosen)]
    return sorted(chosen + rest[: count - len(chosen)])


def _lacking(examples: Any, chosen: Sequence[int], shots: int | None) -> tuple[str, ...]:
    notes = []
    if shots is not None and len(chosen) < shots:
        notes.append(f"{plural(shots, 'label')} were asked for, and there are {len(chosen):,}: all were taken")
    labels, names = getattr(examples, "labels", ()), getattr(examples, "label_names", ())
    if labels and (missing := len(names) - len({labels[index] for index in chosen})):
        notes.append(f"{missing} of the {len(names)} classes have no example to train on")
    return tuple(notes)


def _as_it_is(model: Model, suite: Suite, task: Task, scoring: Scoring) -> Scores:
    settings = _training(scoring.settings)
    with compute_threads(scoring.settings.threads):
        loaded = task.load(model.folder, next(iter(suite.tests.values())), settings)
        if getattr(loaded.processor, "private", ()):
            raise UserInputError(
                f"{model.folder}: its files have no head that predicts tokens, so it gives no probabilities as it is; "
                "take --protocol fine-tuned, which trains one"
            )
        return Scores(num_train=0, measured={name: measure(task, loaded, test) for name, test in suite.tests.items()})


def _probe(model: Model, suite: Suite, task: Task, chosen: Sequence[int], scoring: Scoring) -> dict[str, Measured]:
    with compute_threads(scoring.settings.threads):
        if task.name in _HEADS:
            return _probe_of_texts(model, suite, task, chosen, scoring)
        train = suite.train.take(chosen)
        loaded = load_probe(task, model.folder, train, _training(scoring.settings))
        return {name: measure(task, loaded, test) for name, test in suite.tests.items()}


def _probe_of_texts(
    model: Model, suite: Suite, task: Task, chosen: Sequence[int], scoring: Scoring
) -> dict[str, Measured]:
    """Fit and score a head on features that are kept: once they are there, the body is not even loaded."""
    train = _encoded(model, suite.train, scoring)
    loaded = _head_alone(task, suite.train, train.encoded)
    task.start_head(loaded, train.take(chosen))
    return {name: measure(task, loaded, test, _encoded(model, test, scoring)) for name, test in suite.tests.items()}


_HEADS: dict[str, tuple[Callable[[Any], int], Loss]] = {
    "text-classification": (lambda examples: examples.num_classes, entropy),
    "multi-label-classification": (lambda examples: len(examples.names), binary_cross_entropy_with_logits),
    "regression": (lambda _: 1, squared_error),
}
"""Tasks with a linear head on the texts' features: how many outputs it has, and its loss."""


def _head_alone(task: Task, examples: Any, encoded: Tensor) -> TaskModel:
    num_outputs, loss = _HEADS[task.name]
    count = num_outputs(examples)
    head = LinearHead(weight=torch.zeros(count, encoded.shape[1]), bias=torch.zeros(count))
    nobody = nn.Linear(1, 1)  # a body that nobody asks
    return TaskModel(model=Classifier(nobody, head, dropout=0.0, loss=loss), processor=None, collate=_no_batches)


def _no_batches(_: Sequence[Feature]) -> dict[str, Tensor]:
    raise NotImplementedError("a head on features that are kept makes no batches")


def _encoded(model: Model, examples: Any, scoring: Scoring) -> EncodedTexts:
    """Return a model's features of texts, from the cache where they are there."""
    settings = scoring.settings
    passing = Passing(
        max_length=settings.max_length, device=settings.device, threads=settings.threads, cache=scoring.cache
    )
    labels = examples.labels if hasattr(examples, "labels") else examples.targets
    return EncodedTexts(encoded=passing.features(model.folder, model.digest, examples), labels=labels)


def _job(model: Model, examples: Any, task: Task, *, seed: int) -> TrainingJob:
    train, validation = _parted(task, examples, seed=seed)
    return TrainingJob(
        base_dir=model.folder, base_digest=model.digest, schema_names=open_checkpoint(model.folder).schema.keys(),
        round=0, train=train, validation=validation, task=task,
    )  # fmt: skip


def _fine_tuned(
    tests: Mapping[str, Any], job: TrainingJob, settings: TrainingSettings, *, checkpoint: Path | None
) -> dict[str, Measured]:
    with training_run(job, settings, checkpoint=checkpoint) as (loaded, train):
        train()
        loaded.model.to(pick_device(settings.device))
        return {name: measure(job.task, loaded, test) for name, test in tests.items()}


def _parted(task: Task, examples: Any, *, seed: int) -> tuple[Any, Any]:
    """Set examples apart that choose the best epoch; of few labels none can be spared, and all of them choose it."""
    if len(examples) < _FEWEST_APART:
        return examples, examples
    try:
        return set_apart(task, examples, seed=seed)
    except UserInputError:  # every example is of a class of its own
        return examples, examples


def _training(settings: ScoringSettings, *, seed: int = 0, epochs: int = 1) -> TrainingSettings:
    return TrainingSettings(
        max_length=settings.max_length, threads=settings.threads, device=settings.device, seed=seed, num_epochs=epochs,
        learning_rate=settings.learning_rate, batch_size=settings.batch_size, patience=epochs,
    )  # fmt: skip
