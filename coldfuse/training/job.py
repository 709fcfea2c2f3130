"""What goes into a training run and what comes out of it: values only, and light to import."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldfuse.errors import UserInputError
from coldfuse.training.arguments import UNDECISIVE, check_train_args
from coldfuse.training.tasks import DEFAULT_TASK, find_task
from coldfuse.training.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from coldfuse.training.private import PrivatePart

_LIMITS = {
    "num_epochs": (1, 10_000),
    "batch_size": (1, 65_536),
    "learning_rate": (1e-12, 1.0),
    "warmup_fraction": (0.0, 0.99),
    "weight_decay": (0.0, 1.0),
    "max_gradient_norm": (1e-6, 1e6),
    "dropout": (0.0, 0.99),
    "max_length": (5, 1_000_000),  # three special tokens, and one token of each text of a pair
    "tokens_at_once": (1, 1 << 40),
    "patience": (1, 10_000),
    "threads": (1, 1024),
    "checkpoint_every_s": (0.0, 1e9),
}

_UNDECISIVE = ("threads", "device", "checkpoint_every_s", "train_args")
"""Settings that decide nothing but, at most, the last bits: when to save, and where to compute."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings of one fine-tuning run; the defaults suit a BERT-sized encoder and a few thousand examples."""

    num_epochs: int = 3
    """Number of times that every training example is seen, at most."""
    batch_size: int = 32
    """Examples in one optimiser step."""
    learning_rate: float = 5e-5
    """AdamW's step size at its highest, after the warm-up."""
    warmup_fraction: float = 0.06
    """Share of all steps in which the learning rate rises from zero; then it falls linearly to zero."""
    weight_decay: float = 0.0
    """AdamW's decay per step and learning rate; 0 keeps the embeddings of unseen words, and so the delta, unchanged."""
    max_gradient_norm: float = 1.0
    """L2 norm to which a longer gradient is cut."""
    dropout: float = 0.1
    """Share of features that are dropped before the head during training; the body keeps its own dropout."""
    max_length: int = 128
    """Tokens of a text (or of a pair together) that are read; the model's own limit applies as well."""
    tokens_at_once: int = 4096
    """Tokens, with padding, that pass through the body at once in training; larger batches are split. About 0.3 MB of
    memory a token for a body of hidden size 384, in proportion to its size; the result is the same up to rounding."""
    patience: int = 2
    """Epochs in a row without a better validation accuracy after which training ends early."""
    seed: int = 0
    """Seed of the order of the examples and of dropout, together with the round's number."""
    threads: int | None = None
    """Processor threads of this process; unset leaves torch's choice. The same number gives the same bytes."""
    device: str = "auto"
    """Device to train on: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one."""
    checkpoint_every_s: float = 120.0
    """Seconds of training after which a checkpoint is written, besides the one at the end of every epoch."""
    train_args: Mapping[str, Any] = field(default_factory=dict)
    """What else the user says, by the names of transformers' `TrainingArguments`; it goes before the settings above."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with, by name."""
        check_train_args(self.train_args)
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # also refuses NaN
                raise UserInputError(f"{name} is {value}, expected {low} to {high}")

    def decisive(self) -> dict[str, object]:
        """Return the settings that decide the outcome: with others, what was trained is trained again."""
        chosen = {name: value for name, value in asdict(self).items() if name not in _UNDECISIVE}
        given = {name: value for name, value in self.train_args.items() if name not in UNDECISIVE}
        return chosen | {"train_args": given} if given else chosen  # as before train_args were there


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What is trained on what: the same job with the same settings gives the same fine-tuned model."""

    base_dir: Path
    """Model folder of the base."""
    base_digest: str
    """Model digest of the base; a checkpoint of another base is not resumed."""
    schema_names: Collection[str]
    """Names of the tensors in the base's files."""
    round: int
    """Number of the round; each has its own order of examples and dropout."""
    train: Any
    """Examples to learn from, see `Examples`."""
    validation: Any
    """Examples that choose the best epoch and give the scores."""
    task: Task = field(default_factory=lambda: find_task(DEFAULT_TASK))
    """Task that the examples are of."""
    kept: PrivatePart | None = None
    """Private tensors of an earlier round, from which this one starts where they score better than new ones."""


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """One moment of a training run, for a progress line."""

    phase: str
    """What the run does: `probe` while the head is first fitted, `train` after a step, `score` after an epoch."""
    epoch: int
    """Number of the epoch under way, from 1; 0 while the probe is fitted."""
    step: int
    """Optimiser steps done since the run began, in earlier processes too."""
    num_steps: int
    """Steps of the whole run if it does not end early."""
    loss: float | None = None
    """Mean training loss of the last batch."""
    score: float | None = None
    """Score of the epoch on the validation examples, by the task's metric, after a `score`."""
    examples_per_s: float | None = None
    """Training examples a second since this process began to train."""


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """What fine-tuning made of the base, and how it scored on the validation examples."""

    tensors: Mapping[str, Tensor]
    """Shared body after the best epoch: float32 on the CPU, by the base's names."""
    private: PrivatePart
    """Private tensors that belong to them, such as the head; they stay on the node."""
    num_examples: int
    """Distinct examples trained on."""
    num_steps: int
    """Optimiser steps done."""
    num_epochs: int
    """Epochs done, with those after the best one."""
    best_epoch: int
    """Number of the epoch, from 1, whose weights these are."""
    score_before: float
    """Score of the start on the unchanged base: of the better of a linear probe and the head of an earlier round."""
    score_after: float
    """Score of these tensors with these private ones."""
    loss_before: float
    """Mean validation loss of the start on the unchanged base."""
    loss_after: float
    """Mean validation loss of these tensors."""
    beats_base: bool
    """Whether the score is better than before, or, where it is the same, the loss is."""
    resumed_at_step: int
    """Number of steps that a checkpoint spared this process; 0 without one."""


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Training was asked to stop; the checkpoint, where one is kept, holds everything up to `step`."""

    step: int
    """Optimiser steps done."""
    num_steps: int
    """Steps of the whole run."""
