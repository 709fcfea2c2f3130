"""A pull towards the base: FedProx and L2-SP are one equation.

    penalty = μ/2 ‖θ − θ_t‖² + β/2 ‖θ_head‖²

FedProx (arXiv 1812.06127, equation 2) has β = 0; L2-SP (arXiv 1802.01483, equation 3) calls μ α, and draws weights that
the base does not have to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from coldfuse.training.objectives.objective import Beginning, Objective, Term, copies


class FedProx(Objective):
    """Pulls the shared weights towards the base."""

    name: ClassVar = "fedprox"
    summary: ClassVar = "pulls the shared weights towards the base: μ/2 ‖θ − θ_t‖²"
    source: ClassVar = "FedProx (arXiv 1812.06127, equation 2)"

    mu: float = Field(default=0.01, gt=0)
    """Strength of the pull."""

    def begin(self, beginning: Beginning) -> Term:
        """Remember the base."""
        return _Pull(beginning.own_weights(self.name), [], mu=self.mu, beta=0.0)


class L2SP(Objective):
    """Pulls the shared weights towards the base, and the head towards zero."""

    name: ClassVar = "l2-sp"
    summary: ClassVar = "pulls the shared weights towards the base and the head to zero: α/2 ‖θ − θ_t‖² + β/2 ‖θ_head‖²"
    source: ClassVar = "L2-SP (arXiv 1802.01483, equation 3)"

    alpha: float = Field(default=0.01, gt=0)
    """Strength of the pull towards the base."""
    beta: float = Field(default=0.01, ge=0)
    """Strength of the pull of the head towards zero."""

    def begin(self, beginning: Beginning) -> Term:
        """Remember the base."""
        own = beginning.own_weights(self.name)
        shared = {id(parameter) for parameter in own.values()}
        head = [p for p in beginning.model.parameters() if p.requires_grad and id(p) not in shared]
        return _Pull(own, head, mu=self.alpha, beta=self.beta)


class _Pull(Term):
    def __init__(self, shared: Mapping[str, nn.Parameter], head: list[nn.Parameter], *, mu: float, beta: float) -> None:
        self.shared, self.head, self.mu, self.beta = shared, head, mu, beta
        self.base = copies(shared)

    def penalty(self) -> Tensor:
        """Return μ/2 ‖θ − θ_t‖² + β/2 ‖θ_head‖²."""
        distance = sum((theta - self.base[name]).square().sum() for name, theta in self.shared.items())
        size = sum(theta.square().sum() for theta in self.head)
        return self.mu / 2 * distance + self.beta / 2 * size  # type: ignore[return-value]
