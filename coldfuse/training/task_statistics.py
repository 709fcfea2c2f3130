"""What private data say of a model, for any task: Fisher information and Gram matrices through the task's own model.

The empirical Fisher information is the mean square of the gradient of one example's loss, as the task defines it: for
tasks of many predictions (language models, tokens) the loss of an example is a mean over its targets, so that long
examples count like short ones. The exact one is an expectation over classes, and so for single labels alone. A loss
that compares examples with each other (contrastive) has no gradient of one example, and no Fisher information here.

Gram matrices are of `nn.Linear` layers. What is no such layer (GPT-2's `Conv1D`, experts in one tensor) has none, and
is fused by the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from coldfuse.core.statistics import Estimator, StatisticsKind
from coldfuse.errors import UserInputError
from coldfuse.tensors.statistics import StatisticsInfo
from coldfuse.training.estimators import GRAM_BATCH, GramSums, choose, directions_of, evaluating, mean_squares

if TYPE_CHECKING:
    from coldfuse.training.tasks.task import Feature, TaskModel

_MOST_EXACT = 10
"""Number of classes up to which Fisher information is exact unless somebody asks otherwise: each costs a pass back."""

OnExample = Callable[[int, int], None]
"""on_example(done, total): is called after each example; what it raises ends the computation."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which statistics are computed."""

    kind: Literal["fisher", "gram"]
    """Fisher information of each weight, or Gram matrices of the linear layers' inputs."""
    estimator: Literal["auto", "exact", "empirical"] = "auto"
    """Estimator of the Fisher information; `auto` is exact for up to ten classes of a single label."""
    num_examples: int | None = 256
    """Number of examples, chosen at random by `seed`; None for all."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """Statistics in memory."""

    tensors: Mapping[str, Tensor]
    """Float32 on the CPU, by the names that were asked for."""
    estimator: Estimator
    """How they were found."""
    num_examples: int
    """Number of examples that were looked at."""
    count: int
    """Number of examples or tokens that they are a mean over."""


def _ignore(_done: int, _total: int) -> None:
    pass


def shapes_of(loaded: TaskModel, names: Mapping[str, str], kind: StatisticsKind) -> dict[str, tuple[int, ...]]:
    """Return the shape of each statistic that will be computed, by its name in the files, before any is.

    Args:
        loaded: The task's model.
        names: Names in the files of the parameters that are looked at, by those in `loaded.model`.
        kind: What will be computed.
    """
    parameters = dict(loaded.model.named_parameters())
    if kind != "gram":
        return {stored: tuple(parameters[own].shape) for own, stored in names.items()}
    weights = {
        id(module.weight): module.in_features for module in loaded.model.modules() if isinstance(module, nn.Linear)
    }
    found = {own: weights[id(parameters[own])] for own in names if id(parameters[own]) in weights}
    return {names[own]: (size, size) for own, size in found.items()}


def estimate(
    loaded: TaskModel,
    features: Sequence[Feature],
    names: Mapping[str, str],
    wish: Wish,
    *,
    on_example: OnExample = _ignore,
) -> Estimated:
    """Compute statistics of a task's model on its examples.

    Args:
        loaded: The model with its loss, as the task loads it.
        features: The examples, as the task encodes them.
        names: Names in the files of the parameters that are looked at, by those in `loaded.model`.
        wish: What is computed.
        on_example: Is told how many examples are done.

    Raises:
        UserInputError: The task has no such statistics.
    """
    chosen = [features[i] for i in choose(len(features), wish.num_examples, seed=wish.seed)]
    if wish.kind == "gram":
        values, count = _grams(loaded, chosen, names, on_example)
        estimator: Estimator = "inputs"
    else:
        estimator = _estimator(loaded, chosen, wish)
        values, count = _fisher(loaded, chosen, names, estimator, on_example), len(chosen)
    tensors = {names[own]: value.detach().float().cpu() for own, value in values.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserInputError(f"statistics of {name} are not finite: the model's weights are broken")
    return Estimated(tensors=tensors, estimator=estimator, num_examples=len(chosen), count=max(count, 1))


_OVER = {"fisher": "examples", "gram": "tokens", "variance": "snapshots"}


def info_of(found: Estimated, kind: StatisticsKind, *, model: str | None = None) -> StatisticsInfo:
    """Return what a file says of statistics; `model` is the digest of the model that they are of."""
    return StatisticsInfo.model_validate({
        "kind": kind, "estimator": found.estimator, "num_examples": found.num_examples, "over": _OVER[kind],
        "count": found.count, "padding": "excluded" if kind == "gram" else None, "model": model,
    })  # fmt: skip


def set_tensors(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Set a model's own tensors to these values, as far as there are some."""
    with torch.no_grad():
        for name, tensor in own.items():
            if name in values:
                tensor.copy_(values[name])


def _estimator(loaded: TaskModel, features: Sequence[Feature], wish: Wish) -> Literal["exact", "empirical"]:
    if not loaded.is_divisible:
        raise UserInputError(
            "this task's loss compares examples with each other, so one example has no gradient and no Fisher "
            "information; take a method that needs none, or Gram matrices (regmean)"
        )
    if wish.estimator == "empirical" or not features:
        return "empirical"
    num_classes = _num_classes(loaded, features[0])
    if wish.estimator == "exact":
        if not num_classes:
            raise UserInputError("exact Fisher information is for tasks with one label an example; take empirical")
        return "exact"
    return "exact" if 0 < num_classes <= _MOST_EXACT else "empirical"


def _num_classes(loaded: TaskModel, feature: Feature) -> int:
    """Return the number of classes of a task with one label an example; 0 for any other."""
    batch = batch_of(loaded, [feature])
    labels = batch.get("labels")
    with evaluating(loaded.model), torch.no_grad():
        logits = getattr(loaded.model(**batch), "logits", None)
    if labels is None or labels.is_floating_point() or labels.shape != (1,) or not isinstance(logits, Tensor):
        return 0
    return logits.shape[1] if logits.dim() == 2 and logits.shape[1] > 1 else 0


def _fisher(
    loaded: TaskModel,
    features: Sequence[Feature],
    names: Mapping[str, str],
    estimator: Literal["exact", "empirical"],
    on_example: OnExample,
) -> dict[str, Tensor]:
    def outputs() -> Iterator[tuple[Tensor, Iterable[Tensor]]]:
        for index, feature in enumerate(features):
            batch = batch_of(loaded, [feature])
            output = loaded.model(**batch)
            if estimator == "exact":
                logits_K = output.logits[0]
                yield logits_K, directions_of(logits_K.detach(), int(batch["labels"][0]), "exact")
            elif output.loss.requires_grad:  # an example without a target has none
                yield output.loss, [torch.ones_like(output.loss)]
            else:
                yield output.loss, []
            on_example(index + 1, len(features))

    return mean_squares(loaded.model, outputs(), names=names)


def _grams(
    loaded: TaskModel, features: Sequence[Feature], names: Mapping[str, str], on_example: OnExample
) -> tuple[dict[str, Tensor], int]:
    """Return the mean of x xᵀ of each linear layer, and the number of tokens (or rows) that were seen."""
    sums = GramSums(names)
    order = sorted(features, key=_length)
    size = _batch_size(loaded)
    with evaluating(loaded.model), sums.gathered_from(loaded.model), torch.no_grad():
        for start in range(0, len(order), size):
            batch = batch_of(loaded, order[start : start + size])
            mask = batch.get("attention_mask")
            is_mask = mask is not None and mask.dim() == 2
            sums.counted_BL = mask.bool() if is_mask and mask is not None else torch.empty(0, dtype=torch.bool)
            loaded.model(**batch)
            on_example(min(start + size, len(order)), len(order))
    return sums.means(), max(sums.counts.values(), default=0)


def _batch_size(loaded: TaskModel) -> int:
    """Return how many examples pass together: one where a decoder has a padding of its own, which no mask tells."""
    config: Any = getattr(loaded.shared_part, "config", None)
    return 1 if getattr(config, "is_encoder_decoder", False) else GRAM_BATCH


def _length(feature: Feature) -> int:
    length = feature.get("length", 0)
    return length if isinstance(length, int) else 0


def batch_of(loaded: TaskModel, features: Sequence[Feature]) -> dict[str, Tensor]:
    """Return the model's arguments of a few features, where the model is."""
    device = next(loaded.model.parameters()).device
    return {name: tensor.to(device) for name, tensor in loaded.collate(features).items()}
