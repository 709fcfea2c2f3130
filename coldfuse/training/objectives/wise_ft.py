"""WiSE-FT (arXiv 2109.01903, equation 1): as far towards the fine-tuned model as the node's own validation likes.

    θ(α) = θ_t + α (θ_i − θ_t)        α of a few, the best by validation; of equals the larger

Everything that trained is interpolated, the head between its start and its end. Of LoRA, B alone: it starts at zero, so
that the change is α times as large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from coldfuse.errors import UserInputError
from coldfuse.training.moving import moving_tensors
from coldfuse.training.objectives.objective import Beginning, Objective, Score, Term

ALPHAS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""What is tried, in this order."""


class WiseFT(Objective):
    """Goes back towards the base as far as validation likes."""

    name: ClassVar = "wise-ft"
    summary: ClassVar = "afterwards goes back towards the base as far as validation likes: θ_t + α (θ_i − θ_t)"
    source: ClassVar = "WiSE-FT (arXiv 2109.01903, equation 1)"

    def begin(self, beginning: Beginning) -> Term:
        """Remember where everything starts."""
        return _Interpolation(beginning, self.name)


class _Interpolation(Term):
    def __init__(self, beginning: Beginning, name: str) -> None:
        self.model = beginning.model
        self.start = {key: t.clone() for key, t in moving_tensors(self.model).items() if not _is_fixed(key)}
        self.alpha = 1.0
        if hasattr(self.model, "peft_config"):
            config = next(iter(self.model.peft_config.values()))  # type: ignore[operator]
            added = [t for key, t in self.start.items() if "lora_B" in key or "lora_embedding_B" in key]
            if config.peft_type != "LORA" or config.use_dora or not added or any(t.any() for t in added):
                raise UserInputError(
                    f"--objective {name}: half of such an adapter is not half of its change; train by lora or full"
                )

    @torch.no_grad()
    def finish(self, score: Score, is_better: Callable[[float, float], bool]) -> float:
        """Try each α, and leave the best."""
        end = {key: t.clone() for key, t in moving_tensors(self.model).items() if key in self.start}
        best, found = 1.0, score()
        for alpha in ALPHAS[1:]:
            self._set(end, alpha)
            if is_better(tried := score(), found):
                best, found = alpha, tried
        self._set(end, best)
        self.alpha = best
        return found

    def _set(self, end: dict[str, Tensor], alpha: float) -> None:
        """Set θ_t + α (θ_i − θ_t); with α = 1 exactly what was trained."""
        for key, tensor in moving_tensors(self.model).items():
            if key in end:
                tensor.copy_(end[key] if alpha == 1 else torch.lerp(self.start[key], end[key], alpha))


def _is_fixed(key: str) -> bool:
    return "lora_A" in key or "lora_embedding_A" in key
