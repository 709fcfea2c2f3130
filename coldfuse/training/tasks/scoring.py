"""Run a model over features without training it; its perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from coldfuse.training.compute import native_autocast
from coldfuse.training.failures import failures_of
from coldfuse.training.scoring import mean_loss, scoring_batches
from coldfuse.training.tasks.task import Feature, TaskModel

_MOST_LOGITS = 1 << 26
_TOKENS_AT_ONCE = 4096
_FEWEST_TOKENS = 256
_MOST_NATS = 700.0
"""Exponent from which on a perplexity is no number any more."""


@torch.no_grad()
def run_over(loaded: TaskModel, features: Sequence[Feature]) -> Iterator[tuple[list[int], dict[str, Tensor], Any]]:
    """Run the model over all features without dropout; yield indices, batch and output of each batch.

    The model is left in the mode it was in.
    """
    model = loaded.model
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        for indices, batch in scoring_batches(loaded, features, tokens_at_once=affordable_tokens(model)):
            with native_autocast(device), failures_of(loaded.shared_part, f"on {len(indices)} examples"):
                output = model(**batch)
            yield indices, batch, output
    finally:
        model.train(was_training)


def perplexity(loaded: TaskModel, features: Sequence[Feature]) -> float:
    """Return exp(−Σ log p(token) / number of tokens), over all tokens that the model is to predict.

    Where the loss is not finite it is the largest that there is, so that it never passes for the better one.
    """
    mean = mean_loss(loaded, features, tokens_at_once=affordable_tokens(loaded.model))
    return math.exp(mean) if mean < _MOST_NATS else math.exp(_MOST_NATS)  # also where it is NaN


def affordable_tokens(model: Any) -> int:
    """Return how many tokens pass at once, so that the logits over a large vocabulary stay small."""
    num_logits = getattr(getattr(model, "config", None), "vocab_size", None)
    if not isinstance(num_logits, int) or num_logits < 1:
        return _TOKENS_AT_ONCE
    return max(_FEWEST_TOKENS, min(_TOKENS_AT_ONCE, _MOST_LOGITS // num_logits))
