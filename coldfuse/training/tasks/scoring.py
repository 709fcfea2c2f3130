"""Run a model over features without training it; its perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from coldfuse.training.compute import native_autocast
from coldfuse.training.failures import failures_of
from coldfuse.training.tasks.task import Feature, TaskModel

_MOST_LOGITS = 1 << 26
_TOKENS_AT_ONCE = 4096
_FEWEST_TOKENS = 256


def batches_of(features: Sequence[Feature], *, tokens_at_once: int = _TOKENS_AT_ONCE) -> Iterator[list[int]]:
    """Yield the indices of features, the longest first, in batches of at most so many tokens with padding.

    >>> list(batches_of([{"length": 2}, {"length": 3}, {"length": 1}], tokens_at_once=6))
    [[1, 0], [2]]
    """
    lengths: list[Any] = [feature["length"] for feature in features]
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, tokens_at_once // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


@torch.no_grad()
def run_over(
    loaded: TaskModel, features: Sequence[Feature]
) -> Iterator[tuple[list[int], dict[str, Tensor], Any]]:
    """Run the model over all features without dropout; yield indices, batch and output of each batch.

    The model is left in the mode it was in.
    """
    model = loaded.model
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        for indices in batches_of(features, tokens_at_once=_affordable(model)):
            batch = {name: rows.to(device) for name, rows in loaded.collate([features[i] for i in indices]).items()}
            with native_autocast(device), failures_of(model, f"on {len(indices)} examples"):
                output = model(**batch)
            yield indices, batch, output
    finally:
        model.train(was_training)


def _affordable(model: Any) -> int:
    """Return how many tokens pass at once, so that the logits over a large vocabulary stay small."""
    num_logits = getattr(getattr(model, "config", None), "vocab_size", None)
    if not isinstance(num_logits, int) or num_logits < 1:
        return _TOKENS_AT_ONCE
    return max(_FEWEST_TOKENS, min(_TOKENS_AT_ONCE, _MOST_LOGITS // num_logits))


def perplexity(loaded: TaskModel, features: Sequence[Feature]) -> float:
    """Return exp(−Σ log p(token) / number of tokens), over all tokens that the model is to predict.

    Infinite where the model's loss is not finite, so that it never passes for the better one.
    """
    total, count = 0.0, 0
    for _, batch, output in run_over(loaded, features):
        num = loaded.num_targets(batch)
        total += float(output.loss) * num
        count += num
    mean = total / max(count, 1)
    return math.exp(mean) if mean < 700.0 else math.inf  # also where it is NaN
