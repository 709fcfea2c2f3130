"""How well a model does on each example of a suite.

Where the suite's task has a private head, the head is the linear probe of the model's frozen body: fitted on the
suite's training examples, once for each model, and asked on the others. Nothing is random: the same model, suite and
number of threads give the same outcomes.

Shape letters: N examples of the suite's test data, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coldfuse.data.dataset import TextDataset
from coldfuse.evaluation.gate_suites import Outcomes, Suite
from coldfuse.training.classifying import logits_of
from coldfuse.training.compute import compute_threads
from coldfuse.training.scoring import mean_loss
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks.scoring import affordable_tokens
from coldfuse.training.tasks.task import TaskModel

_COMPARED_BY_LOSS = frozenset({"regression"})
"""Tasks whose metric says nothing of a single example."""


def outcomes_of(model_dir: Path, suites: Sequence[Suite], *, threads: int | None = None) -> list[Outcomes]:
    """Return how well a model does on each example of every suite.

    Args:
        model_dir: The model's folder.
        suites: The suites.
        threads: Processor threads; None: torch's own choice.

    Raises:
        UserInputError: The folder holds no model for a suite's task, or a broken one.
    """
    with compute_threads(threads), torch.no_grad():
        return [_outcomes(model_dir, suite) for suite in suites]


def _outcomes(model_dir: Path, suite: Suite) -> Outcomes:
    task = suite.task
    loaded = task.load(model_dir, suite.train, TrainingSettings(dropout=0.0))
    if task.has_private_head:
        task.start_head(loaded, task.encode(loaded, suite.train))
    loaded.model.eval()
    if isinstance(suite.test, TextDataset):
        return _right(loaded, suite)
    found = [_outcome(loaded, suite, suite.test.take([index])) for index in range(len(suite.test))]
    return np.array([-math.inf if math.isnan(value) else value for value in found], np.float64)


def _right(loaded: TaskModel, suite: Suite) -> Outcomes:
    """Tell which texts the head puts into their class, in batches of like length."""
    logits_NK = logits_of(loaded, suite.task.encode(loaded, suite.test)).cpu()
    right_N = logits_NK.argmax(dim=1) == torch.tensor(suite.test.labels)
    return right_N.double().numpy().astype(np.float64)


def _outcome(loaded: TaskModel, suite: Suite, example: Any) -> float:
    """Return the metric's value on one example, or how small its loss is, where the metric says nothing of one."""
    task = suite.task
    features = task.encode(loaded, example)
    if task.name in _COMPARED_BY_LOSS:
        return -mean_loss(loaded, features, tokens_at_once=affordable_tokens(loaded.model))
    score = task.score(loaded, example, features)
    return score if task.higher_is_better else -score
