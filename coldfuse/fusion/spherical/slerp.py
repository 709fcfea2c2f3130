"""Spherical linear interpolation: along the arc between two models, so that the length does not sag in the middle.

    θ = sin((1 − t) ω) / sin ω · θ_1 + sin(t ω) / sin ω · θ_2,   cos ω = ⟨θ_1, θ_2⟩ / ‖θ_1‖ ‖θ_2‖, tensor by tensor

Shoemake 1985, doi 10.1145/325334.325242; as in mergekit, nearly parallel tensors (|cos ω| > 0.9995) are interpolated
linearly. Fine-tuned models of one base nearly always are; `nuslerp` turns about the base instead. Where a model's
tensor is zero the angle is not defined, and the line is straight as well.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfuse.errors import FusionError
from coldfuse.fusion.block import TensorInfo
from coldfuse.fusion.measures import gram_with_base
from coldfuse.fusion.method import LinearCombination, LinearCombiner, Measure
from coldfuse.fusion.spherical.angles import arc
from coldfuse.fusion.spherical.sphere import models_on_sphere, straight_between_two

_PARALLEL = 0.9995
_SURELY_PARALLEL = 1 - 1e-12
"""Where rounding would blow up the arc between opposites."""


class Slerp(LinearCombiner):
    """Go along the arc from one model to another."""

    summary = "along the arc between two models, seen from zero"
    source = "Shoemake 1985, doi 10.1145/325334.325242"
    is_weighted: ClassVar[bool] = True

    t: float | None = Field(default=None, ge=0, le=1)
    """Place on the arc: 0 is the model named first, 1 the second; w_2 / (w_1 + w_2), from the weights, unless given."""
    straight: float | None = Field(default=None, gt=0, le=1)
    """|cos ω| above which the line is straight: 0.9995 unless given; 1 is mergekit's nuslerp without a base model."""

    def measures(self) -> tuple[Measure, ...]:
        """Inner products of the models, by tensor."""
        return (gram_with_base("tensor"),)

    def positional_weights(self, count: int) -> tuple[float, ...] | None:
        """Return 1 − t and t. Raises `FusionError` for other than two models."""
        if self.t is None:
            return None
        if count != 2:
            raise FusionError(f"slerp(t={self.t}) goes from one model to another: expected 2 in order, got {count}")
        return (1 - self.t, self.t)

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c_1 = sin((1 − t) ω) / sin ω and c_2 = sin(t ω) / sin ω."""
        self._check_order(info)
        straight = straight_between_two(info, "slerp")
        models = models_on_sphere(info)
        cosine = models.cosines_CC[0, 1]
        bound = _PARALLEL if self.straight is None else min(self.straight, _SURELY_PARALLEL)
        if abs(cosine) > bound or not models.lengths_C.all():
            return straight
        models_C = np.array(arc(cosine, *(straight.deltas_C / straight.divisor)))
        return LinearCombination(deltas_C=models_C, base=float(models_C[0] + models_C[1] - 1))

    def _check_order(self, info: TensorInfo) -> None:
        expected = self.positional_weights(info.num_contributions)
        if expected is not None and sorted(info.weights_C) != sorted(expected):
            raise FusionError(
                f"slerp(t={self.t}): expected the weights {expected}, got {tuple(info.weights_C.tolist())}; "
                "name two models in order and give no weights, or leave t out"
            )
