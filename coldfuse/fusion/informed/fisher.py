"""Fisher-weighted averaging: each parameter is averaged by how much each contributor's data say about it.

    δ = Σ_i λ_i F̂_i δ_i / Σ_i λ_i F̂_i      λ_i = w_i / ‖F_i‖₂, over all parameters      (arXiv 2111.09832, section 3)

F_i is the diagonal of the Fisher information. The authors' code puts a floor of 1e-6 under the target model's alone, so
that what nobody knows stays as the target has it. Here no contribution is the target: the floor is under all, and as F
has no natural unit, it is a share of F_i's root mean square. Where nobody knows more than that, the result is the
weighted mean; and so it is in a tensor without statistics, or where every F_i is zero (`by_element`).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Float64, TensorInfo
from coldfuse.fusion.informed.by_element import ByElement, Rule
from coldfuse.fusion.method import Statistic


class Fisher(ByElement):
    """The mean, weighted element by element by Fisher information."""

    summary = "each element counts by how much each contributor's data say about it (Fisher information)"
    source = "arXiv 2111.09832, section 3"
    statistic: ClassVar[Statistic | None] = "fisher"

    normalise: bool = True
    """True to divide each F_i by its L2 norm over the whole model: then F's unit does not matter, nor who has more of
    it."""
    floor: float = Field(default=1e-6, ge=0)
    """Least that every contribution knows of every element."""
    floor_rule: Literal["relative", "absolute", "added"] = "relative"
    """Meaning of the floor. `relative`: max(F, floor · root mean square of F). `absolute`: max(F, floor), the authors'
    rule for their target model; `added`: F + floor, as MergeLM and FusionBench do: these two depend on F's unit."""

    def rule(self, info: TensorInfo, weights_C: Float64) -> Rule:
        """Return k = w F̂ / ‖F‖."""
        squared_C = info.measured["squared_statistics"]
        scale_C = weights_C * self._scale(np.sqrt(squared_C))
        match self.floor_rule:
            case "relative":
                own_C = squared_C if self.normalise else squared_C[info.weights_C != 0].max()
                mean_square_C = own_C / info.num_elements
                return Rule(scale_C=scale_C, least_C=np.full_like(squared_C, self.floor) * np.sqrt(mean_square_C))
            case "absolute":
                return Rule(scale_C=scale_C, least_C=np.full_like(squared_C, self.floor))
            case "added":
                return Rule(scale_C=scale_C, least_C=np.zeros_like(squared_C), added=self.floor)

    def _scale(self, norm_C: Float64) -> Float64:
        """Return 1 / ‖F_i‖; 0 for a contribution that knows nothing at all."""
        if not self.normalise:
            return np.ones_like(norm_C)
        return np.divide(1.0, norm_C, out=np.zeros_like(norm_C), where=norm_C > 0)
