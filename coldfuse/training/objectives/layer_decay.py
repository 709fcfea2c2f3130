"""Layer-wise decay of the learning rate: lower layers, which hold what tasks share, move less.

    rate of layer k = rate · decay^(n + 1 − k)        n layers; embeddings are layer 0, heads and what follows n + 1

Discriminative fine-tuning (arXiv 1801.06146, section 3.2), in the form of ELECTRA (arXiv 2003.10555) and BEiT.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn

from coldfuse.errors import UserInputError
from coldfuse.training.objectives.objective import Beginning, Objective, Term
from coldfuse.training.ways.parts import find_stacks


class LayerDecay(Objective):
    """Trains lower layers at a lower rate."""

    name: ClassVar = "layer-decay"
    summary: ClassVar = "trains lower layers at a lower rate: rate · decay^(layers above)"
    source: ClassVar = (
        "discriminative fine-tuning (arXiv 1801.06146, section 3.2), as ELECTRA has it (arXiv 2003.10555)"
    )

    decay: float = Field(default=0.8, gt=0, lt=1)
    """Factor from one layer to the one below it."""

    def begin(self, beginning: Beginning) -> Term:
        """Find the layers."""
        stacks = {path: len(stack) for path, stack in find_stacks(beginning.model).items()}
        if not stacks:
            raise UserInputError(
                f"--objective {self.name}: {type(beginning.model).__name__} has no stack of like layers; leave it out"
            )
        return _Decay(beginning.model, stacks, self.decay)


class _Decay(Term):
    def __init__(self, model: nn.Module, stacks: dict[str, int], decay: float) -> None:
        self.stacks, self.decay = stacks, decay
        self.embeddings = tuple(f"{path}." for path, m in model.named_modules() if isinstance(m, nn.Embedding) and path)

    def rate(self, name: str) -> float:
        """Return decay^(n + 1 − k)."""
        for path, count in self.stacks.items():
            if name.startswith(f"{path}.") if path else name.partition(".")[0].isdecimal():
                number = int(name.removeprefix(f"{path}.").partition(".")[0])
                return float(self.decay ** (count - number))  # layer k is numbered k − 1
        is_below = name.startswith(self.embeddings) or "embed" in name.lower()
        return float(self.decay ** (max(self.stacks.values()) + 1)) if is_below else 1.0
