"""What tasks need to score a model on features: batches of like length, and the mean loss over all targets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from coldfuse.training.compute import native_autocast
from coldfuse.training.failures import failures_of
from coldfuse.training.schedule import split_batch
from coldfuse.training.tasks.task import Feature, TaskModel

_SCORED_AT_ONCE = 64


def is_better(score: float, than: float, *, higher: bool) -> bool:
    """Tell whether a score is better than another; any is better than one that is no number.

    >>> is_better(0.5, 0.6, higher=False), is_better(math.nan, 0.6, higher=True), is_better(9.0, math.nan, higher=False)
    (True, False, True)
    """
    if math.isnan(than):
        return not math.isnan(score)
    return score > than if higher else score < than


def beats(after: float, before: float, losses: tuple[float | None, float], *, higher: bool) -> bool:
    """Tell whether what was trained is better than its start: by its score, or by its loss where the scores are equal.

    Args:
        after: Score after training.
        before: Score of the start.
        losses: Losses before and after; None before: nobody knows it.
        higher: Whether a higher score is better.

    >>> beats(0.8, 0.7, (0.5, 0.6), higher=True), beats(0.7, 0.7, (0.5, 0.6), higher=True)
    (True, False)
    """
    loss_before, loss_after = losses
    is_gain = loss_before is None or loss_after < loss_before
    return is_better(after, before, higher=higher) or (after == before and is_gain)


def take_features(features: Sequence[Feature], indices: Sequence[int]) -> Sequence[Feature]:
    """Return the features at `indices`, in that order."""
    take = getattr(features, "take", None)
    chosen: Sequence[Feature] = take(indices) if take is not None else [features[i] for i in indices]
    return chosen


def single_examples(
    loaded: TaskModel, features: Sequence[Feature], count: int, *, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the model's arguments for examples that are drawn without repetition, one at a time."""
    device = next(loaded.model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    for index in torch.randperm(len(features), generator=generator)[:count].tolist():
        yield {name: tensor.to(device) for name, tensor in loaded.collate([features[index]]).items()}


def scoring_batches(
    loaded: TaskModel, features: Sequence[Feature], *, tokens_at_once: int, examples_at_once: int = _SCORED_AT_ONCE
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield batches of like length, the longest first: which features they are of, and the model's arguments.

    Args:
        loaded: What is scored; batches lie on its device.
        features: On what.
        tokens_at_once: Most tokens, with padding, of a batch; a longer one is one alone.
        examples_at_once: Most examples of a batch.
    """
    device = next(loaded.model.parameters()).device
    lengths = [int(feature["length"]) for feature in features]  # type: ignore[call-overload]
    by_length = sorted(range(len(features)), key=lengths.__getitem__, reverse=True)
    for start in range(0, len(by_length), examples_at_once):
        some = by_length[start : start + examples_at_once]
        at_once = tokens_at_once if loaded.is_divisible else 1 << 62
        for indices in split_batch(lengths, some, tokens_at_once=at_once):
            batch = loaded.collate([features[i] for i in indices])
            yield indices, {name: tensor.to(device) for name, tensor in batch.items()}


def mean_loss(loaded: TaskModel, features: Sequence[Feature], *, tokens_at_once: int) -> float:
    """Return the mean loss over all targets, without dropout and in the order of the lengths."""
    total, count = total_loss(loaded, features, tokens_at_once=tokens_at_once)
    return total / max(count, 1)


@torch.no_grad()
def total_loss(loaded: TaskModel, features: Sequence[Feature], *, tokens_at_once: int) -> tuple[float, int]:
    """Return the loss summed over all targets, and their number; see `mean_loss`."""
    model = loaded.model
    was_training, total, count = model.training, 0.0, 0
    model.eval()
    device = next(model.parameters()).device
    with native_autocast(device), failures_of(loaded.shared_part, "scoring"):
        for _, batch in scoring_batches(loaded, features, tokens_at_once=tokens_at_once):
            num_targets = loaded.num_targets(batch)
            if not num_targets:  # the mean over nothing is no number
                continue
            total += float(model(**batch).loss.float().mean()) * num_targets
            count += num_targets
    model.train(was_training)
    return total, count
