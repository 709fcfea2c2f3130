"""One round of the experiment: what each contributor has, and the models that they trained, kept from run to run.

    own tasks    each contributor has a task and a head of its own; the heads stay apart
    partitions   each contributor has a part of one task; the heads start equal and are fused like the body

The head that parties start from is the mean of the linear probes that each fits to its own part on the unchanged base:
nobody sees another's examples.

Contributions may be replaced by broken or hostile ones:

    noise10, noise100    δ = 10 ‖δ_i‖ z / ‖z‖ in every tensor, or 100 times ‖δ_i‖; z is normal
    flip, flip10         δ = −δ_i, or 10 times that
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from coldfuse.data.dataset import TextDataset
from coldfuse.experiments.fusion_data import Sizes, Task, deal, read_task
from coldfuse.experiments.fusion_models import (
    WEIGHTS,
    Accuracies,
    Kept,
    head_tensors,
    publish,
    read_head,
    read_model,
    write_model,
)
from coldfuse.experiments.fusion_training import Labelled, Training, accuracy, fit_head, mean_head, train
from coldfuse.training.head import HEAD_FILE, LinearHead, save_head
from coldfuse.training.loading import load_body
from coldfuse.training.schedule import derive_seed


@dataclass(frozen=True, kw_only=True)
class Parties:
    """How one task is dealt out."""

    num_parties: int
    num_each: int
    """Number of examples of each party."""
    main_share: float
    """Share of a party's examples that have its main label; with 0 the parties are alike."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained on what."""

    data: Path
    base: Path
    tasks: Sequence[str]
    """Names of the tasks: one for each contributor, or the one that is dealt out."""
    sizes: Sizes
    training: Training
    parties: Parties | None = None

    def key(self) -> str:
        """Name the setting for the cache."""
        return hashlib.sha256(json.dumps(asdict(self), default=str, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """A contributor's fine-tuned model."""

    name: str
    data: TextDataset
    """Examples that it was trained on."""
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a fused model is scored on."""

    name: str
    validation: Labelled
    test: Labelled
    head: LinearHead | None
    """Head of the contributor; None where the fused model has one."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What fusion methods are given, and what they are scored on."""

    folder: Path
    """Folder that keeps everything of this round."""
    base: Path
    contributions: Sequence[Contribution]
    scored: Sequence[Scored]
    probe: Mapping[str, float]
    """Test accuracy of the unchanged base with a linear probe (of partitions: the head that all start from)."""
    max_length: int


def prepare(setting: Setting, work: Path, *, seed: int, callback: Callable[[str], None] | None = None) -> Round:
    """Read the data, and train what `work` does not have yet; say to `callback` what was read."""
    folder = work / setting.key() / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [read_task(setting.data / name, setting.sizes, seed=seed, callback=callback) for name in setting.tasks]
    if setting.parties is None:
        return _own_tasks(setting, folder, tasks, seed)
    return _partitions(setting, folder, tasks[0], deal(tasks[0].train, **asdict(setting.parties), seed=seed), seed)


def _noise(delta: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(delta.shape, generator=generator)
    noise *= delta.norm() / noise.norm()
    return noise


def _flip(delta: Tensor, _: torch.Generator) -> Tensor:
    return -delta


ATTACKS: dict[str, tuple[float, Callable[[Tensor, torch.Generator], Tensor]]] = {
    "noise10": (10.0, _noise),
    "noise100": (100.0, _noise),
    "flip": (1.0, _flip),
    "flip10": (10.0, _flip),
}
"""Length of the hostile delta in lengths of the good one, and what makes it, by the attack's name."""


def attacked(given: Round, attack: str, *, num_hostile: int) -> Round:
    """Return the round with the last contributions replaced."""
    good = given.contributions[: len(given.contributions) - num_hostile]
    folder = given.folder / attack
    folder.mkdir(exist_ok=True)
    bad = [_spoilt(given, item, attack) for item in given.contributions[len(good) :]]
    return replace(given, folder=folder, contributions=[*good, *bad])


def _own_tasks(setting: Setting, folder: Path, tasks: Sequence[Task], seed: int) -> Round:
    contributions, scored = [], []
    probe: Accuracies = {}
    kept = Kept(folder / "probe.json")
    for task in tasks:
        contribution = Contribution(name=task.name, data=task.train, folder=folder / task.name)
        probe |= kept.get(task.name, partial(_probe_and_train, setting, task, contribution, seed))
        validation, test = _labelled(setting, task.validation), _labelled(setting, task.test)
        head = read_head(contribution.folder / HEAD_FILE)
        contributions.append(contribution)
        scored.append(Scored(name=task.name, validation=validation, test=test, head=head))
    return Round(
        folder=folder, base=setting.base, contributions=contributions, scored=scored, probe=probe,
        max_length=setting.training.max_length,
    )  # fmt: skip


def _probe_and_train(setting: Setting, task: Task, contribution: Contribution, seed: int) -> Accuracies:
    body = load_body(setting.base)
    head = fit_head(body, _labelled(setting, task.train), task.train.num_classes)
    if not contribution.folder.exists():
        _train(contribution, setting, setting.base, head, seed)
    return {task.name: accuracy(body, head, _labelled(setting, task.test))}


def _partitions(setting: Setting, folder: Path, task: Task, parts: Sequence[TextDataset], seed: int) -> Round:
    base = folder / "base"
    if not base.exists():
        body = load_body(setting.base)
        probes = [fit_head(body, _labelled(setting, part), task.train.num_classes) for part in parts]
        staging = folder / "base.part"
        write_model(staging, setting.base, head_tensors(mean_head(probes)))
        publish(staging, base)
    start = read_head(base / WEIGHTS)
    contributions = [
        Contribution(name=f"party-{number}", data=part, folder=folder / f"party-{number}")
        for number, part in enumerate(parts)
    ]
    for contribution in contributions:
        if not contribution.folder.exists():
            _train(contribution, setting, base, start, seed)
    validation, test = _labelled(setting, task.validation), _labelled(setting, task.test)
    scored = [Scored(name=task.name, validation=validation, test=test, head=None)]
    probe = Kept(folder / "probe.json").get(
        task.name, lambda: {task.name: accuracy(load_body(setting.base), start, test)}
    )
    return Round(
        folder=folder, base=base, contributions=contributions, scored=scored, probe=probe,
        max_length=setting.training.max_length,
    )  # fmt: skip


def _train(contribution: Contribution, setting: Setting, base: Path, head: LinearHead, seed: int) -> None:
    """Fine-tune, and write the model's folder; the head goes beside the weights, and among them where it is fused."""
    data = _labelled(setting, contribution.data)
    seed = derive_seed(seed, contribution.name)
    tensors, tuned = train(base, head, data, setting.training, seed=seed)
    if setting.parties is not None:
        tensors |= head_tensors(tuned)
    staging = contribution.folder.with_suffix(".part")
    write_model(staging, base, tensors)
    save_head(staging / HEAD_FILE, tuned, contribution.data.label_names)
    publish(staging, contribution.folder)


def _labelled(setting: Setting, data: TextDataset) -> Labelled:
    return Labelled.of(data, setting.base, setting.training.max_length)


def _spoilt(given: Round, good: Contribution, attack: str) -> Contribution:
    folder = given.folder / attack / good.name
    if not folder.exists():
        base, tuned = read_model(given.base), read_model(good.folder)
        generator = torch.Generator().manual_seed(derive_seed(attack, good.name))
        strength, make = ATTACKS[attack]
        spoilt = {name: base[name] + strength * make(tuned[name] - base[name], generator) for name in sorted(base)}
        staging = folder.with_suffix(".part")
        write_model(staging, given.base, spoilt)
        publish(staging, folder)
    return replace(good, folder=folder)
