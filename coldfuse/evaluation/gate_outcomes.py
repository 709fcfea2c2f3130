"""How well a model does on each example of a gate's suites.

Where the suite's task has a private head, the head is the linear probe of the model's frozen body: fitted on the
suite's training examples, once for each model, and asked on the others. Nothing is random: the same model, suite and
number of threads give the same outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from coldfuse.errors import UserInputError
from coldfuse.evaluation.gate_suites import Outcomes, Suite
from coldfuse.evaluation.outcomes import outcomes_of
from coldfuse.training.compute import compute_threads
from coldfuse.training.settings import TrainingSettings


def score_folder(model_dir: Path, suites: Sequence[Suite], *, threads: int | None = None) -> list[Outcomes]:
    """Return how well a model does on each example of every suite.

    Args:
        model_dir: The model's folder.
        suites: The suites.
        threads: Processor threads; None: torch's own choice.

    Raises:
        UserInputError: The folder holds no model for a suite's task, or a broken one.
    """
    with compute_threads(threads), torch.no_grad():
        return [_score(model_dir, suite) for suite in suites]


def _score(model_dir: Path, suite: Suite) -> Outcomes:
    task = suite.task
    loaded = task.load(model_dir, suite.train, TrainingSettings(dropout=0.0))
    if task.has_private_head:
        task.start_head(loaded, task.encode(loaded, suite.train))
    loaded.model.eval()
    found = outcomes_of(task, loaded, suite.test)
    if found is None:
        raise UserInputError(f"suite {suite.name}: {task.name} says of no single example how well a model does on it")
    outcomes = np.array(found, np.float64)
    return np.where(np.isnan(outcomes), -np.inf, outcomes)
