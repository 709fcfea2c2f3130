"""Task arithmetic: add, forget and relate what fine-tuning changed (arXiv 2212.04089, section 2).

    add       δ =  λ Σ_i w_i δ_i
    negate    δ = −λ Σ_i w_i δ_i
    analogy   δ =  λ (δ_A + δ_B − δ_C)      A is to the result as C is to B

Weights are not normalised (unless `normalize` says so), and may be negative or sum to zero. With λ = 1/C and weights of
1 the sum is the mean.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfuse.errors import FusionError
from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.method import BY_TENSOR, LinearCombination, LinearCombiner, Variant, Varying

_DEFAULT_SCALES: dict[Variant, float] = {"paper": 0.3, "mergekit": 1.0}
_ANALOGY = (1.0, 1.0, -1.0)
_NO_WEIGHT = 1e-8


class TaskArithmetic(LinearCombiner):
    """Add the deltas, and take a part of the sum."""

    summary = "the sum of the deltas, scaled; weights may be negative"
    source = "arXiv 2212.04089, section 2"
    is_weighted: ClassVar[bool] = True

    scale: float | None = Field(default=None, ge=0)
    """Factor λ of the sum: 0.3 unless given, the paper's usual value for 8 tasks; mergekit's default is 1.0. Best found
    on validation."""
    variant: Variant = "paper"
    """Source of the default scale; the formula is the same."""
    normalize: bool | None = None
    """True to divide the sum by Σ w, as mergekit can be told to; a Σ w under 1e-8 divides nothing, as there."""

    def varying(self) -> Varying:
        """The scale."""
        return {"scale": BY_TENSOR}

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = λ w, and d = Σ w if that is asked for."""
        scale = info.value("scale", _DEFAULT_SCALES[self.variant] if self.scale is None else self.scale)
        total = float(sum(_finite(info.weights_C))) if self.normalize else 1.0
        divisor = 1.0 if abs(total) < _NO_WEIGHT else total
        return LinearCombination(deltas_C=scale * _finite(info.weights_C), divisor=divisor)


class Negate(LinearCombiner):
    """Subtract the deltas, so that the model forgets what they taught."""

    summary = "forget: step back along the sum of the deltas"
    source = "arXiv 2212.04089, section 3"
    is_weighted: ClassVar[bool] = True

    scale: float = Field(default=1.0, ge=0)
    """Factor λ of the sum; best found on validation, where a control task must not suffer."""

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = −λ w."""
        return LinearCombination(deltas_C=-self.scale * _finite(info.weights_C))


class Analogy(LinearCombiner):
    """Add what A learned and what sets B apart from C; the models' order decides who is who."""

    summary = "A + (B − C), for exactly three models in this order"
    source = "arXiv 2212.04089, section 5"
    is_weighted: ClassVar[bool] = True

    scale: float = Field(default=1.0, ge=0)
    """Factor λ of the result."""

    def positional_weights(self, count: int) -> tuple[float, ...]:
        """Return 1, 1, −1. Raises `FusionError` for other than three models."""
        if count != len(_ANALOGY):
            raise FusionError(f"an analogy is A + (B - C): expected 3 models in this order, got {count}")
        return _ANALOGY

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = λ w, where w says which model is C."""
        expected = self.positional_weights(info.num_contributions)
        if sorted(info.weights_C) != sorted(expected):
            raise FusionError(
                f"an analogy is A + (B - C): expected the weights 1, 1 and -1, got {info.weights_C.tolist()}; "
                "name the three models in order and give no weights"
            )
        return LinearCombination(deltas_C=self.scale * info.weights_C)


def _finite(weights_C: Float64) -> Float64:
    if not np.isfinite(weights_C).all():
        raise FusionError(f"weights are {weights_C.tolist()}, expected finite numbers")
    return weights_C
