"""Batches of questions with their texts, for models that tell the first and the last token of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from coldfuse.training.tasks.models import collate, takes_types
from coldfuse.training.tasks.task import Feature, TaskModel


def span_batches(loaded: TaskModel) -> Callable[[Sequence[Feature]], dict[str, Tensor]]:
    """Return what makes batches for a model."""
    fillers = {"input_ids": loaded.processor.filler}
    if takes_types(loaded.model, loaded.processor.intake):
        fillers["token_type_ids"] = 0
    pad_to = loaded.processor.intake.pad_to

    def make(features: Sequence[Feature]) -> dict[str, Tensor]:
        batch = collate(features, fillers=fillers, pad_to=pad_to)
        ends = ("start_positions", "end_positions")
        return batch | {name: torch.tensor([feature[name] for feature in features]) for name in ends}

    return make
