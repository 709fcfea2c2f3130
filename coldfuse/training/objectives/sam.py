"""Sharpness-aware minimisation (arXiv 2010.01412, equation 2): the gradient is taken where the loss is worst nearby.

    ε = ρ g / ‖g‖₂            g = ∇L(θ)
    the step follows ∇L(θ + ε), from θ

Two passes a step. The weights are put back from copies, so that what rounding does to θ + ε − ε is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from coldfuse.training.objectives.objective import Beginning, Objective, Term


class SAM(Objective):
    """Takes each step's gradient at the worst point nearby."""

    name: ClassVar = "sam"
    summary: ClassVar = "takes gradients at the worst point within ρ, for flat minima; two passes a step"
    source: ClassVar = "SAM (arXiv 2010.01412, equation 2)"

    rho: float = Field(default=0.05, gt=0)
    """ρ: distance of that point."""

    def begin(self, beginning: Beginning) -> Term:
        """Look at all that trains."""
        return _Sharpness([p for p in beginning.model.parameters() if p.requires_grad], self.rho)


class _Sharpness(Term):
    def __init__(self, parameters: list[nn.Parameter], rho: float) -> None:
        self.parameters, self.rho = parameters, rho

    @torch.no_grad()
    def repeat(self, again: Callable[[], None]) -> None:
        """Climb to θ + ε, have the gradients made there, and come back to θ."""
        climbing = [(p, p.grad, p.clone()) for p in self.parameters if p.grad is not None]
        if not climbing:
            return
        norm = torch.stack([gradient.norm() for _, gradient, _ in climbing]).norm()
        for theta, gradient, _ in climbing:
            theta.add_(gradient * (self.rho / (norm + 1e-12)))
            theta.grad = None
        with torch.enable_grad():
            again()
        for theta, _, before in climbing:
            theta.copy_(before)
