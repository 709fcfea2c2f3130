"""Several options of the objective together, as one training run sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from coldfuse.training.objectives.objective import Beginning, Objective, Score, Term


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

    def parameter_groups(self, model: nn.Module, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the optimiser's groups of all that trains: one for each learning rate."""
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                rate = 1.0
                for term in self._terms.values():
                    rate *= term.rate(name)
                groups.setdefault(rate, []).append(parameter)
        return [
            {"params": parameters, "lr": learning_rate * rate, "weight_decay": weight_decay}
            for rate, parameters in groups.items()
        ]

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint has to hold."""
        return {f"{name}/{key}": t for name, term in self._terms.items() for key, t in term.tensors().items()}

    def finish(self, score: Score, is_better: Callable[[float, float], bool]) -> float | None:
        """See the best weights once training is over; return their score if it is another now."""
        changed = [term.finish(score, is_better) for term in self._terms.values()]
        return next((value for value in reversed(changed) if value is not None), None)


def _part(saved: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): t for key, t in saved.items() if key.startswith(f"{name}/")}
