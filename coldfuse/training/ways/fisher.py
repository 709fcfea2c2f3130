"""The empirical diagonal Fisher information of any task's model, one example at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import torch
from torch import Tensor, nn

from coldfuse.training.estimators import mean_squares
from coldfuse.training.ways.way import Batch


def empirical_fisher(model: nn.Module, examples: Iterable[Batch], *, names: Collection[str]) -> dict[str, Tensor]:
    """Return the mean over examples of (∂ loss / ∂θ)² of some parameters, by name, float32; 0 where there is none.

    Args:
        model: A model whose output has a loss; it is put to evaluation meanwhile.
        examples: Batches of one example each.
        names: The parameters' names.
    """

    def losses() -> Iterator[tuple[Tensor, Iterable[Tensor]]]:
        for batch in examples:
            loss = model(**batch).loss
            yield loss, (torch.ones_like(loss),)

    return mean_squares(model, losses(), names=names)
