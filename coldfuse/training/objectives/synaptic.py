"""Synaptic Intelligence (arXiv 1703.04200, equations 3 to 5): what a weight did in earlier rounds holds it in this.

    ω_k −= g_k Δθ_k                              at each step; g is the loss's gradient, without penalties
    Ω_k += ω_k / ((θ_k − θ_t,k)² + ξ)            once a round's training is over; kept at the node
    penalty = c Σ_k Ω_k (θ_k − θ_t,k)²           in later rounds

A node's first round has no penalty. Ω lies in the node's folder, one file a round: to train a round again reads what
the rounds before it left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.training.objectives.objective import Beginning, Objective, Score, Term, copies
from coldfuse.training.ways.kept import read_tensors, write_tensors

_FILE = re.compile(r"importance-(\d+)\.safetensors")


class SynapticIntelligence(Objective):
    """Holds the weights that did much for the node's own task in earlier rounds."""

    name: ClassVar = "si"
    summary: ClassVar = "holds weights by what they did for your task in earlier rounds: c Σ Ω (θ − θ_t)²"
    source: ClassVar = "Synaptic Intelligence (arXiv 1703.04200, equations 3 to 5)"

    strength: float = Field(default=0.1, gt=0)
    """c: strength of the pull."""
    xi: float = Field(default=1e-3, gt=0)
    """ξ: what keeps the importance of weights that hardly moved finite."""

    def begin(self, beginning: Beginning) -> Term:
        """Read the importance that earlier rounds left."""
        if beginning.folder is None:
            raise UserInputError(f"--objective {self.name}: it needs a folder of the node, in which importance is kept")
        return _Synapses(beginning.own_weights(self.name), beginning, self)


class _Synapses(Term):
    def __init__(
        self, shared: Mapping[str, nn.Parameter], beginning: Beginning, settings: SynapticIntelligence
    ) -> None:
        self.shared, self.settings, self.base = shared, settings, copies(shared)
        self.folder, self.round = beginning.folder or Path(), beginning.round
        self.importance = self._earlier()
        saved = beginning.saved or {}
        self.sums = {
            name: saved[name].to(theta.device) if name in saved else torch.zeros_like(theta, requires_grad=False)
            for name, theta in shared.items()
        }
        self.noted: dict[str, tuple[Tensor, Tensor]] = {}

    def penalty(self) -> Tensor | None:
        """Return c Σ_k Ω_k (θ_k − θ_t,k)²; None in the first round."""
        if not self.importance:
            return None
        moved = ((self.importance[name], theta - self.base[name]) for name, theta in self.shared.items())
        return self.settings.strength * sum((omega * delta.square()).sum() for omega, delta in moved)  # type: ignore[return-value]

    def note_gradients(self) -> None:
        """Remember g and θ of before the step."""
        self.noted = {
            name: (theta.grad.detach().clone(), theta.detach().clone())
            for name, theta in self.shared.items()
            if theta.grad is not None
        }

    def after_step(self) -> None:
        """ω −= g Δθ."""
        for name, (gradient, before) in self.noted.items():
            self.sums[name] -= gradient * (self.shared[name].detach() - before)
        self.noted = {}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return ω."""
        return self.sums

    def finish(self, score: Score, is_better: Callable[[float, float], bool]) -> None:
        """Ω += ω / (Δ² + ξ), for the rounds to come."""
        del score, is_better
        total = {}
        for name, theta in self.shared.items():
            moved = theta.detach() - self.base[name]
            total[name] = self.sums[name].clamp(min=0) / (moved.square() + self.settings.xi)
            if self.importance:
                total[name] += self.importance[name]
        write_tensors(self.folder / f"importance-{self.round}.safetensors", total)
        for path in self._files()[:-1]:  # this round may be trained again, and needs the last before it
            path.unlink()

    def _files(self) -> list[Path]:
        """Return what rounds before this one left, in their order."""
        found = {int(m[1]): path for path in self.folder.glob("*") if (m := _FILE.fullmatch(path.name))}
        return [found[number] for number in sorted(found) if number < self.round]

    def _earlier(self) -> dict[str, Tensor]:
        """Read Ω of the last round before this one; a change of what is trained begins anew."""
        kept = read_tensors(self._files()[-1]) if self._files() else {}
        fits = {n: t.shape for n, t in kept.items()} == {n: t.shape for n, t in self.shared.items()}
        return {name: kept[name].to(theta.device) for name, theta in self.shared.items()} if fits else {}
