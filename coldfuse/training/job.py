"""What goes into a training run and what comes out of it: values only."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from coldfuse.data.dataset import TextDataset


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What is trained on what: the same job with the same settings gives the same fine-tuned model."""

    base_dir: Path
    """The base's model folder."""
    base_digest: str
    """The base's digest; a checkpoint of another base is not resumed."""
    schema_names: Collection[str]
    """The names of the tensors in the base's files."""
    round: int
    """The round, which gives every round its own order of examples and dropout."""
    train: TextDataset
    """The examples to learn from."""
    validation: TextDataset
    """The examples that choose the best epoch and give the scores."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One moment of a training run, for a progress line."""

    phase: str
    """`probe` while the head is first fitted, `train` after a step, `score` after an epoch."""
    epoch: int
    """The epoch under way, from 1; 0 while the probe is fitted."""
    step: int
    """Optimiser steps done since the run began, in earlier processes too."""
    num_steps: int
    """Steps of the whole run if it does not end early."""
    loss: float | None = None
    """Mean training loss of the last batch."""
    accuracy: float | None = None
    """The latest validation accuracy."""
    examples_per_s: float | None = None
    """Training examples a second since this process began to train."""


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """What fine-tuning made of the base, and how it scored on the validation examples."""

    tensors: Mapping[str, Tensor]
    """The shared body after the best epoch: float32 on the CPU, by the base's names."""
    head: Mapping[str, Tensor]
    """The private head (`weight`, `bias`) that belongs to it; it stays on the node."""
    num_examples: int
    """Distinct examples trained on."""
    num_steps: int
    """Optimiser steps done."""
    num_epochs: int
    """Epochs done, with those after the best one."""
    best_epoch: int
    """The epoch, from 1, whose weights these are."""
    accuracy_before: float
    """Validation accuracy of the linear probe on the unchanged base."""
    accuracy_after: float
    """Validation accuracy of these tensors with this head."""
    resumed_at_step: int
    """The step that a checkpoint spared this process from repeating; 0 without one."""


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Training was asked to stop; the checkpoint, where one is kept, holds everything up to `step`."""

    step: int
    """Optimiser steps done."""
    num_steps: int
    """Steps of the whole run."""
