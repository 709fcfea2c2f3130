"""Elastic weight consolidation (arXiv 1612.00796, equation 3): the pull is strong where the base is sensitive.

    penalty = λ/2 Σ_k F_k (θ_k − θ_t,k)²        F_k = mean over examples of (∂ log p(y|x) / ∂θ_k)², at θ_t

F is the empirical diagonal Fisher information of the base on the node's own examples, one by one. Where a loss is a
mean over tokens, so is the log-likelihood whose gradient is squared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.training.objectives.objective import Beginning, Objective, Term, copies
from coldfuse.training.ways.fisher import empirical_fisher


class EWC(Objective):
    """Holds the weights to which the base is sensitive on the node's own data."""

    name: ClassVar = "ewc"
    summary: ClassVar = "holds weights by the base's Fisher information on your data: λ/2 Σ F (θ − θ_t)²"
    source: ClassVar = "EWC (arXiv 1612.00796, equation 3)"

    strength: float = Field(default=100.0, gt=0)
    """λ: strength of the pull."""
    examples: int = Field(default=256, ge=1)
    """Number of training examples, chosen at random, that the Fisher information is computed from."""

    def begin(self, beginning: Beginning) -> Term:
        """Compute the Fisher information, or take it from the checkpoint."""
        own, fisher = beginning.own_weights(self.name), beginning.saved
        if fisher is None:
            fisher = empirical_fisher(beginning.model, beginning.examples(self.examples), names=own)
        if not any(values.any() for values in fisher.values()):
            raise UserInputError(f"--objective {self.name}: the Fisher information of all weights is 0 on these data")
        return _Elastic(own, fisher, self.strength)


class _Elastic(Term):
    def __init__(self, shared: Mapping[str, nn.Parameter], fisher: Mapping[str, Tensor], strength: float) -> None:
        self.shared, self.strength, self.base = shared, strength, copies(shared)
        self.fisher = {name: fisher[name].to(theta.device) for name, theta in shared.items()}

    def penalty(self) -> Tensor:
        """Return λ/2 Σ_k F_k (θ_k − θ_t,k)²."""
        moved = ((theta - self.base[name], self.fisher[name]) for name, theta in self.shared.items())
        return self.strength / 2 * sum((f * delta.square()).sum() for delta, f in moved)  # type: ignore[return-value]

    def tensors(self) -> Mapping[str, Tensor]:
        """Return F."""
        return self.fisher
