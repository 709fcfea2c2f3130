"""Several options of the objective together, as one training run sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from coldfuse.training.objectives.objective import Beginning, Objective, Score, Term
from coldfuse.training.objectives.rows import FeaturesWithRows
from coldfuse.training.tasks.task import Feature


class Terms:
    """The terms of a run, by the names of their objectives.

    Args:
        objectives: What was asked for.
        beginning: The prepared model, before the first step.
        saved: What a checkpoint has of `tensors`, or None where training begins.
    """

    def __init__(
        self, objectives: Sequence[Objective], beginning: Beginning, *, saved: dict[str, Tensor] | None = None
    ) -> None:
        self._terms: dict[str, Term] = {}
        for objective in objectives:
            own = None if saved is None else _part(saved, objective.name)
            self._terms[objective.name] = objective.begin(replace(beginning, saved=own))

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._terms)

    def beside(self, features: Sequence[Feature]) -> Sequence[Feature]:
        """Return training examples with what terms have to know of each beside it; themselves where that is nothing."""
        rows = {name: rows for name, term in self._terms.items() if (rows := term.rows()) is not None}
        return FeaturesWithRows(features=features, rows=rows) if rows else features

    def loss(self, features: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return what is added to a batch's loss, whose examples have such `rows`; see `Term.loss`."""
        return torch.stack([self._terms[name].loss(features, own) for name, own in rows.items()]).sum()

    def complete(self, backward: Callable[[Tensor], None], again: Callable[[], None]) -> None:
        """See a step's gradients once they are there, and complete them.

        Args:
            backward: Adds a loss's gradients.
            again: Makes the gradients of the step's examples once more, with the same dropout.
        """
        for term in self._terms.values():
            term.note_gradients()
        for term in self._terms.values():
            term.repeat(again)
        for term in self._terms.values():
            if (penalty := term.penalty()) is not None:
                backward(penalty)

    def after_step(self) -> None:
        """See the weights after a step."""
        for term in self._terms.values():
            term.after_step()

    def split_groups(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Give an optimiser a group for each learning rate, before its first step.

        Args:
            optimizer: The optimiser, whose groups have its full learning rate.
            model: The model that it trains.
        """
        rates = {id(parameter): self._rate(name) for name, parameter in model.named_parameters()}
        if set(rates.values()) <= {1.0}:
            return
        groups = list(optimizer.param_groups)
        optimizer.param_groups.clear()
        for group in groups:
            for rate in sorted({rates[id(parameter)] for parameter in group["params"]}):
                own = [parameter for parameter in group["params"] if rates[id(parameter)] == rate]
                optimizer.add_param_group({**group, "params": own, "lr": group["lr"] * rate})

    def _rate(self, name: str) -> float:
        return math.prod(term.rate(name) for term in self._terms.values())

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint has to hold."""
        return {f"{name}/{key}": t for name, term in self._terms.items() for key, t in term.tensors().items()}

    def finish(self, score: Score, is_better: Callable[[float, float], bool]) -> float | None:
        """See the best weights once training is over; return their score if it is another now."""
        changed = [term.finish(score, is_better) for term in self._terms.values()]
        return next((value for value in reversed(changed) if value is not None), None)


def _part(saved: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): t for key, t in saved.items() if key.startswith(f"{name}/")}
