"""What goes into a training run and what comes out of it: values only, and light to import."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks import DEFAULT_TASK, find_task
from coldfuse.training.tasks.task import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from coldfuse.tensors.changes import Change
    from coldfuse.training.private import PrivatePart

__all__ = ["FineTuned", "ReadBase", "Stopped", "TrainingJob", "TrainingProgress", "TrainingSettings"]

ReadBase = Callable[[str, int, int], "NDArray[np.float64]"]
"""floats(name, first, count): return some elements of one of the base's tensors."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What is trained on what: the same job with the same settings gives the same fine-tuned model."""

    base_dir: Path
    """Model folder of the base; of a federation that shares a module, of its frozen body."""
    base_digest: str
    """Model digest of the base; a checkpoint of another base is not resumed."""
    schema_names: Collection[str]
    """Names of the tensors in that folder's files."""
    round: int
    """Number of the round; each has its own order of examples and dropout."""
    train: Any
    """Examples to learn from, see `Examples`."""
    validation: Any
    """Examples that choose the best epoch and give the scores."""
    module_dir: Path | None = None
    """Folder of the release whose module is trained on the frozen body; None where the base is a whole model."""
    task: Task = field(default_factory=lambda: find_task(DEFAULT_TASK))
    """Task that the examples are of."""
    kept: PrivatePart | None = None
    """Private tensors of an earlier round, from which this one starts where they score better than new ones."""
    folder: Path | None = None
    """Folder of the node in which a way of training keeps what lasts over rounds; None: it keeps nothing."""


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

    shared: Callable[[], Mapping[str, Tensor]]
    """shared(): return the shared tensors after the best epoch, float32 on the CPU, by the base's names."""
    changes: Callable[[ReadBase], Mapping[str, Change]]
    """changes(floats): return what became of the base's tensors, whose elements `floats` gives, by the base's names."""
    trained: str
    """Name of the way in which they were trained."""
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

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Shared tensors after the best epoch: float32 on the CPU, by the base's names."""
        return self.shared()


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Training was asked to stop; the checkpoint, where one is kept, holds everything up to `step`."""

    step: int
    """Optimiser steps done."""
    num_steps: int
    """Steps of the whole run."""
