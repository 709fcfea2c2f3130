"""What a round asks of a Trainer of transformers, or one of its kind such as TRL's.

Each round is a training of its own, as the user has configured it: `trainer.state` is new, so that `global_step` counts
from 0; optimiser and schedule are new, as moments that belong to another model would pull the first steps astray; those
that the user has made are set back to how they were. Callbacks are left alone. Checkpoints of a round lie in a folder
of its own under `output_dir`, so that none is taken for another's; what a killed process has left there goes on.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from coldfuse.attached.own import is_peft, unwrapped
from coldfuse.attached.ranks import is_first, on_first
from coldfuse.core.contribution import Score
from coldfuse.errors import UserInputError

_KEPT_ROUNDS = 2
"""Rounds whose checkpoints are kept."""

_ROUND = re.compile(r"release-\d{5,}-[0-9a-f]{18}")
"""Names that `round_name` gives: nothing else in the user's folder is ours to remove."""

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
"""Names that a Trainer gives its checkpoints."""

_DECISIVE = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "weight_decay", "warmup_steps", "lr_scheduler_type", "optim", "seed",
)  # fmt: skip
"""Settings with others of which a training that was under way is begun anew."""

Load = Callable[[nn.Module], None]
"""load(model): set the release into it."""


class TrainerLike(Protocol):
    """A `transformers.Trainer`, or one of its kind."""

    model: Any
    args: Any
    state: Any
    train_dataset: Any
    eval_dataset: Any

    def train(self, *args: Any, **options: Any) -> Any:
        """Train as configured."""

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Return the metrics of the evaluation data."""


class AttachedTrainer:
    """A Trainer that takes part in rounds; a context manager that leaves it as it was."""

    def __init__(self, trainer: Any) -> None:
        """Take the Trainer, before its first round.

        Raises:
            UserInputError: It has nothing to train on.
        """
        if getattr(trainer, "train_dataset", None) is None:
            raise UserInputError(
                f"{type(trainer).__name__} has no train_dataset, so that there is nothing to train and to contribute"
            )
        self.trainer = trainer
        self._output_dir = Path(trainer.args.output_dir)
        self._model_init = getattr(trainer, "model_init", None)
        self._train = vars(trainer).get("train")
        self._optimizer, self._scheduler = _unwrapped(trainer.optimizer), _unwrapped(trainer.lr_scheduler)
        self._groups = [_as_given(group) for group in self._optimizer.param_groups] if self._optimizer else []
        self._schedule = copy.deepcopy(self._scheduler.state_dict()) if self._scheduler else {}

    def __enter__(self) -> AttachedTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.trainer.args.output_dir = str(self._output_dir)
        if self._model_init is not None:
            self.trainer.model_init = self._model_init
        self.trainer.__dict__.pop("train", None)
        if self._train is not None:  # what the user, or a library such as Unsloth, has put there
            self.trainer.train = self._train

    @property
    def model(self) -> nn.Module:
        """The model, as it is wrapped now."""
        model: nn.Module = self.trainer.model
        return model

    @property
    def reference(self) -> nn.Module | None:
        """The frozen copy that DPO compares with; None where there is none, as with adapters."""
        found: nn.Module | None = getattr(self.trainer, "ref_model", None)
        return found

    @property
    def decisive(self) -> tuple[object, ...]:
        """What decides the delta, as far as it can be told."""
        args = self.trainer.args
        settings = [str(getattr(args, name, None)) for name in _DECISIVE]
        return (type(self.trainer).__name__, type(self.trainer.model).__name__, self.num_examples, *settings)

    @property
    def num_examples(self) -> int | None:
        """Number of rows that it trains on; None for a stream without a length."""
        data: object = self.trainer.train_dataset
        if isinstance(data, Mapping):  # several data sets by name, as sentence-transformers has them
            return sum(map(len, data.values())) if all(isinstance(part, Sized) for part in data.values()) else None
        return len(data) if isinstance(data, Sized) else None

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the last training."""
        return int(self.trainer.state.global_step)

    @property
    def num_seen(self) -> int | None:
        """Number of distinct rows that its steps can have reached; None for a stream without a length."""
        if self.num_examples is None:
            return None
        args = self.trainer.args
        a_step = int(args.train_batch_size * args.gradient_accumulation_steps * max(args.world_size, 1))
        return max(min(self.num_examples, self.num_steps * a_step), 1)

    @property
    def evaluates(self) -> bool:
        """True where it has data to evaluate on."""
        return getattr(self.trainer, "eval_dataset", None) is not None

    @property
    def metric(self) -> str:
        """Name of what decides whether a model is better."""
        name = str(self.trainer.args.metric_for_best_model or "loss")
        return name if name.startswith("eval_") else f"eval_{name}"

    @property
    def higher_is_better(self) -> bool:
        """True where more of the metric is better."""
        given = self.trainer.args.greater_is_better
        return bool(given) if given is not None else not self.metric.endswith("loss")

    def score(self) -> float:
        """Evaluate the model as it is now.

        Raises:
            UserInputError: The evaluation does not give the metric.
        """
        metrics = self.trainer.evaluate()
        if self.metric not in metrics:
            names = ", ".join(sorted(name for name in metrics if name.startswith("eval_"))[:5])
            raise UserInputError(
                f"the evaluation gives no {self.metric}, but {names}; set metric_for_best_model to one of them, or "
                "attach with send='always'"
            )
        return float(metrics[self.metric])

    def as_score(self, before: float, after: float) -> Score | None:
        """Return the scores as a manifest carries them; None for what it cannot, such as a BLEU of 30."""
        if not (math.isfinite(before) and math.isfinite(after)):
            return None
        name = re.sub(r"[^ -~]", "?", self.metric.removeprefix("eval_"))[:64]
        score = Score(metric=name, before=before, after=after, higher_is_better=self.higher_is_better)
        return None if score.problem() else score

    @property
    def trained(self) -> str:
        """What is trained of the shared part: all, or what PEFT's type changes."""
        if not is_peft(self.model):
            return "full"
        (config,) = unwrapped(self.model).peft_config.values()
        return str(getattr(config.peft_type, "value", config.peft_type)).lower()

    def is_better(self, before: float, after: float) -> bool:
        """Tell whether a score beats the one before; NaN beats nothing."""
        return after > before if self.higher_is_better else after < before

    def begin(self, round_name: str, load: Load) -> None:
        """Make the Trainer ready for a round: fresh, on the release, or where a killed process has left it.

        Args:
            round_name: Name of the round's folder of checkpoints.
            load: Sets the release into a model, and what is private.
        """
        self._forget_training()
        folder = self._output_dir / round_name
        self.trainer.args.output_dir = str(folder)
        self._clear_old(folder)
        checkpoint = on_first(lambda: {"path": _last_checkpoint(folder)})["path"]
        if self._model_init is not None:
            self.trainer.model_init = _loaded(self._model_init, load)
        load(self.trainer.model)
        self.trainer.train = _resuming(self._train or type(self.trainer).train.__get__(self.trainer), checkpoint)

    def _forget_training(self) -> None:
        """Take away what an earlier training has left: moments, schedule and its engine."""
        trainer = self.trainer
        trainer.optimizer, trainer.lr_scheduler = self._optimizer, self._scheduler
        if self._optimizer is not None:
            self._optimizer.state.clear()
            for group, given in zip(self._optimizer.param_groups, self._groups, strict=True):
                group.pop("initial_lr", None)
                group.update(copy.deepcopy(given))
        if self._scheduler is not None:
            self._scheduler.load_state_dict(copy.deepcopy(self._schedule))

    def _clear_old(self, folder: Path) -> None:
        """Remove the checkpoints of rounds before the last ones, which nobody goes on from; what else is there stays.

        Contributors may share an `output_dir`: each clears its own.
        """
        if is_first():
            ours = [
                path for path in self._output_dir.glob("release-*") if _ROUND.fullmatch(path.name) and path.is_dir()
            ]
            others = sorted(path for path in ours if path != folder and path.name[-6:] == folder.name[-6:])
            for old in others[: -(_KEPT_ROUNDS - 1)]:
                for checkpoint in filter(_CHECKPOINT.fullmatch, os.listdir(old)):
                    shutil.rmtree(old / checkpoint, ignore_errors=True)
                with suppress(OSError):  # a model or logs that the user has saved there
                    old.rmdir()


def round_name(base_release: int, base_digest: str, *, owner_digest: str, work_digest: str) -> str:
    """Return the name of the folder of a round's checkpoints: another base or other settings have another one.

    >>> round_name(3, "ab" * 32, owner_digest="ef" * 32, work_digest="cd" * 32)
    'release-00003-abababcdcdcdefefef'
    """
    return f"release-{base_release:05d}-{base_digest[:6]}{work_digest[:6]}{owner_digest[:6]}"


def _unwrapped(prepared: Any) -> Any:
    """Return the optimiser or schedule that Accelerate has put something around."""
    return getattr(prepared, "optimizer", prepared) if type(prepared).__name__ == "AcceleratedOptimizer" else (
        prepared.scheduler if type(prepared).__name__ == "AcceleratedScheduler" else prepared
    )  # fmt: skip


def _as_given(group: dict[str, Any]) -> dict[str, Any]:
    """Return an optimiser's settings as they were before a schedule changed them."""
    given = {key: copy.deepcopy(value) for key, value in group.items() if key not in ("params", "initial_lr")}
    return given | {"lr": copy.deepcopy(group.get("initial_lr", group["lr"]))}


def _loaded(init: Callable[..., nn.Module], load: Load) -> Callable[..., nn.Module]:
    """Return a `model_init` whose model begins from the release."""

    @functools.wraps(init)  # the Trainer counts its arguments
    def init_and_load(*args: Any) -> nn.Module:
        model = init(*args)
        load(model)
        return model

    return init_and_load


def _resuming(train: Callable[..., Any], checkpoint: Any) -> Callable[..., Any]:
    """Return the Trainer's own `train`, which goes on from a checkpoint the first time, if there is one."""
    left = [checkpoint]

    @functools.wraps(train)
    def resume(resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        found = left.pop() if left else None
        if not isinstance(resume_from_checkpoint, str):
            resume_from_checkpoint = found
        return train(resume_from_checkpoint=resume_from_checkpoint, **options)

    return resume


def _last_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that was written to its end: the state of the Trainer is the last file of it."""
    if not folder.is_dir():
        return None
    steps = {int(match[1]): path for path in folder.iterdir() if (match := _CHECKPOINT.fullmatch(path.name))}
    return next((str(steps[step]) for step in sorted(steps, reverse=True) if _is_whole(steps[step])), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        return isinstance(json.loads((checkpoint / "trainer_state.json").read_bytes()), dict)
    except (OSError, ValueError):
        return False
