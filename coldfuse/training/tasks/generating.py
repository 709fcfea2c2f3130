"""Models that predict each token from those before it: load them, and make their batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.training.failures import failures_of
from coldfuse.training.job import TrainingSettings
from coldfuse.training.tasks.models import collate, load_language_model, pad
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.task import Feature, TaskModel

_TRIED = 4
_SAME = 1e-3


def load_generator(base_dir: Path, settings: TrainingSettings) -> TaskModel:
    """Load the base with its language-modelling head.

    Raises:
        UserInputError: The folder holds no model that reads from left to right.
    """
    loaded = load_language_model(base_dir, "AutoModelForCausalLM", settings)
    if not reads_left_to_right(loaded.model):
        raise UserInputError(
            f"{base_dir}: {type(loaded.model).__name__} sees the tokens that it is to predict, so that it cannot "
            "learn to write; take a base such as GPT-2 or Llama, or --task fill-mask for this one"
        )
    loaded.collate = partial(collate_blocks, filler=loaded.processor.filler)
    loaded.num_targets = num_predicted
    return loaded


@torch.no_grad()
def reads_left_to_right(model: nn.Module) -> bool:
    """Tell, by trying, whether a model's words on a token are the same whatever comes after it."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    with failures_of(model, "on two short texts"):
        ids = torch.zeros(2, _TRIED, dtype=torch.long, device=device)
        ids[1, -1] = 1
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
    model.train(was_training)
    one, other = logits[0, : _TRIED - 1], logits[1, : _TRIED - 1]
    return bool((one - other).norm() <= _SAME * one.norm())


def collate_blocks(features: Sequence[Feature], *, filler: int) -> dict[str, Tensor]:
    """Return features as a batch; labels are the tokens themselves where a feature has no `labels`.

    The model shifts them: the label of a token is what the token before it has to predict.
    """
    labels: list[Any] = [feature.get("labels", feature["input_ids"]) for feature in features]
    return collate(features, fillers={"input_ids": filler}) | {"labels": pad(labels, NO_LABEL)}


def num_predicted(batch: Mapping[str, Tensor]) -> int:
    """Return how many tokens of a batch are predicted: the first of a row is not."""
    return max(int((batch["labels"][:, 1:] != NO_LABEL).sum()), 1)
