"""Make the models of an experiment on the disk: contributions as a node makes them, releases as a round fuses them.

Each is a folder or a file that is named by what the model was made of, and appears when it is whole: what is there is
never made again, and what a killed run left is made anew, to the same bytes.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from coldfuse.core.gate import GateRules, SuiteCounts, decide
from coldfuse.data.dataset import TextDataset
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.evaluation.measured import compare
from coldfuse.evaluation.outcomes import score_folder
from coldfuse.evaluation.suites import Suite
from coldfuse.experiments.fusion_data import Task
from coldfuse.experiments.fusion_models import publish, read_model, write_model
from coldfuse.experiments.fusion_round import ATTACKS
from coldfuse.experiments.paper.models import Averaged, Fused, Gated, Model, Pooled, Pretrained, Training, Tuned
from coldfuse.experiments.paper.multitask import Multitask, pool
from coldfuse.experiments.paper.protocol import Share, indices
from coldfuse.experiments.paper.values import Sizes
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.checkpoint import discard_checkpoint
from coldfuse.training.delta import write_delta
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.head import HEAD_FILE, LinearHead, save_head
from coldfuse.training.job import FineTuned, TrainingJob
from coldfuse.training.schedule import derive_seed
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.statistics import StatisticsJob, compute_statistics, write_statistics
from coldfuse.training.tasks import DEFAULT_TASK, find_task
from coldfuse.training.tasks.task import Task as TrainingTask

_BETTER = GateRules(require="better", margin=0.0, on_unsure="keep")
"""A base is replaced by what is surely better on seen data, and else kept: the federation stops by itself."""

_HEAD = ("head.weight", "head.bias")


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where models are made, and of what."""

    work: Path
    """Folder that keeps everything."""
    base: Path
    """Folder of the pretrained model."""
    tasks: Mapping[str, Task]
    """Data sets by name; all that each has to train on."""
    digests: Mapping[str, str]
    """Digest of each data set."""
    sizes: Sizes
    threads: int
    made: Callable[[Model], None] = lambda _: None
    """Told of each model that was made."""

    @cached_property
    def settings(self) -> TrainingSettings:
        """How everything is trained, but for what a training says itself."""
        return TrainingSettings(
            num_epochs=self.sizes.epochs, batch_size=self.sizes.batch_size, learning_rate=self.sizes.learning_rate,
            max_length=self.sizes.max_length, threads=self.threads,
        )  # fmt: skip

    def place(self, model: Model) -> Path:
        """Return where a model lies, or will lie."""
        if isinstance(model, Pretrained):
            return self.base
        if isinstance(model, Tuned):
            return self.work / "tuned" / (model.name if model.statistic else f"{model.name}.safetensors")
        return self.work / "models" / model.name

    def examples(self, share: Share, seed: int) -> TextDataset:
        """Return the examples of a share."""
        data = self.tasks[share.set].train
        return data.take(indices(share, len(data), seed=seed))


def make(shop: Workshop, model: Model) -> Path:
    """Make a model, and what it is made of, unless it is there; return where it lies."""
    chain = [model]
    while not shop.place(chain[-1]).exists():  # a release's predecessors first: a loop, as there may be very many
        chain.append(_before(chain[-1]))
    for item in reversed(chain[:-1]):
        shop.place(item).parent.mkdir(parents=True, exist_ok=True)
        _make(shop, item)
        shop.made(item)
    return shop.place(model)


def _make(shop: Workshop, model: Model) -> None:
    if isinstance(model, Tuned):
        _make_tuned(shop, model)
    elif isinstance(model, Fused):
        _make_fused(shop, model)
    elif isinstance(model, Gated):
        _make_gated(shop, model)
    elif isinstance(model, Averaged):
        _make_averaged(shop, model)
    elif isinstance(model, Pooled):
        _make_pooled(shop, model)


def _before(model: Model) -> Model:
    if isinstance(model, Gated):
        return model.candidate
    if isinstance(model, Averaged):
        return model.before
    if isinstance(model, Tuned | Fused | Pooled):
        return model.start
    raise UserInputError(f"{type(model).__name__}: the base's folder is gone; give --base again")


def _make_fused(shop: Workshop, model: Fused) -> None:
    start = make(shop, model.start)
    sent = [make(shop, item) for item in model.tuned]
    recipe = read_recipe(model.recipe)
    statistics = [path / "statistics.safetensors" for path in sent] if recipe.statistic else []
    models = [path / "model" for path in sent] if recipe.statistic else sent
    request = FolderFusion(base=start, models=models, out=shop.place(model), recipe=recipe, statistics=statistics)
    fuse_folders(request, ThreadExecutor(shop.threads))
    for item in model.tuned:
        if not isinstance(item.start, Pretrained):  # what begins at the base is a part of many rounds
            remove(shop.place(item))


def _make_gated(shop: Workshop, model: Gated) -> None:
    """Publish what the gate lets pass, as an operator's own suites decide that; the examples have seed 0 for all."""
    before, candidate = make(shop, model.before), make(shop, model.candidate)
    suites = [
        Suite(
            name=share.set, task=DEFAULT_TASK, train=shop.examples(share, 0),
            tests={"": shop.tasks[share.set].validation},
        )
        for share in model.shares
    ]  # fmt: skip
    outcomes = zip(*(score_folder(path, suites, threads=shop.threads) for path in (before, candidate)), strict=True)
    counts = []
    for suite, (old, new) in zip(suites, outcomes, strict=True):
        lost, won = compare(old, new)
        counts.append(SuiteCounts(suite=suite.name, num_examples=suite.num_tests, only_before=lost, only_after=won))
    passes = decide(_BETTER, counts).publish
    staging = shop.place(model).with_name(f"{model.name}.part")
    shutil.copytree(candidate if passes else before, staging, dirs_exist_ok=True)
    publish(staging, shop.place(model))


def _make_averaged(shop: Workshop, model: Averaged) -> None:
    before, latest = make(shop, model.before), make(shop, model.latest)
    recipe = read_recipe(f"task-arithmetic(scale={1 - model.keep})")
    request = FolderFusion(base=before, models=[latest], out=shop.place(model), recipe=recipe)
    fuse_folders(request, ThreadExecutor(shop.threads))


def _make_tuned(shop: Workshop, model: Tuned) -> None:
    start, out = make(shop, model.start), shop.place(model)
    data = shop.examples(model.share, model.training.seed)
    if model.attack == "labels":
        data = shuffled_labels(data, seed=derive_seed(model.training.seed, model.training.round, model.share.set))
    validation = shop.tasks[model.share.set].validation
    done = train(shop, start, Lesson(train=data, validation=validation, training=model.training))
    tensors = _attacked(model, start, done.tensors)
    if model.statistic == "variance":
        raise UserInputError("variances along the training are not recorded in experiments; take fisher or regmean")
    if model.statistic is None:
        base = open_checkpoint(start)
        write_delta(out, base, tensors, encoding="F32", base_digest=base.digest())
        return
    staging = out.with_name(f"{out.name}.part")
    write_model(staging / "model", start, tensors)
    save_head(staging / "model" / HEAD_FILE, head_of(done), data.label_names)
    job = StatisticsJob(
        model_dir=staging / "model", data=data, kind=model.statistic, max_length=shop.sizes.max_length,
        threads=shop.threads,
    )  # fmt: skip
    info, values = compute_statistics(job)
    write_statistics(staging / "statistics.safetensors", values, info)
    publish(staging, out)


def _make_pooled(shop: Workshop, model: Pooled) -> None:
    start, out = make(shop, model.start), shop.place(model)
    pooled = {share.set: shop.examples(share, model.training.seed) for share in model.shares}
    lesson = Lesson(
        train=pool(pooled), validation=pool({name: shop.tasks[name].validation for name in pooled}),
        training=model.training, task=Multitask(),
    )  # fmt: skip
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    done = train(shop, start, lesson, checkpoint=checkpoint)
    staging = out.with_name(f"{out.name}.part")
    write_model(staging, start, done.tensors)
    publish(staging, out)
    discard_checkpoint(checkpoint)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is trained on."""

    train: TextDataset
    validation: TextDataset
    """Examples that choose the best epoch."""
    training: Training
    task: TrainingTask = field(default_factory=lambda: find_task(DEFAULT_TASK))


def train(shop: Workshop, start: Path, lesson: Lesson, *, checkpoint: Path | None = None) -> FineTuned:
    """Fine-tune a model as a node does.

    Args:
        shop: Says how.
        start: Folder of what is fine-tuned.
        lesson: What on.
        checkpoint: File to resume from and to save to; None keeps nothing.
    """
    base, training = open_checkpoint(start), lesson.training
    job = TrainingJob(
        base_dir=start, base_digest=base.digest(), schema_names=base.schema.keys(), round=training.round,
        train=lesson.train, validation=lesson.validation, task=lesson.task,
    )  # fmt: skip
    settings = replace(
        shop.settings, num_epochs=training.epochs, seed=training.seed, objectives=training.objectives,
        patience=training.epochs,
    )  # fmt: skip
    done = fine_tune(job, settings, checkpoint=checkpoint)
    if not isinstance(done, FineTuned):
        raise ColdfuseError(f"training stopped at step {done.step}, though nobody asked it to")
    return done


def head_of(done: FineTuned) -> LinearHead:
    """Return the private head of what was fine-tuned."""
    weight, bias = (done.private.tensors[name] for name in _HEAD)
    return LinearHead(weight=weight, bias=bias)


def shuffled_labels(data: TextDataset, *, seed: int) -> TextDataset:
    """Return the examples with each other's labels."""
    labels = list(data.labels)
    random.Random(seed).shuffle(labels)  # noqa: S311 - an attack on an experiment
    return replace(data, labels=tuple(labels), report=None)


def _attacked(model: Tuned, start: Path, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if model.attack not in ATTACKS:
        return tensors
    strength, spoil = ATTACKS[model.attack]
    base = read_model(start)
    generator = torch.Generator().manual_seed(derive_seed(model.attack, model.share.set, model.training.round))
    return {name: base[name] + strength * spoil(tensors[name] - base[name], generator) for name in sorted(tensors)}


def remove(path: Path) -> None:
    """Remove a model's folder or file, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
