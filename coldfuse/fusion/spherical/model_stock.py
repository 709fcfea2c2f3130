"""Model Stock: from the angle between fine-tuned models, how far to go from the base to their mean.

    t = C cos ω / (1 + (C − 1) cos ω),   cos ω = mean over pairs of ⟨δ_i, δ_j⟩ / ‖δ_i‖ ‖δ_j‖, tensor by tensor
    δ = t · Σ_i δ_i / C

arXiv 2403.19522. One model is its own mean (t = 1). A zero delta has the cosine 0 to every other. The paper takes
angles to be under 90°; a negative cosine makes t negative, and where the deltas cancel, t has no value: there the base
is kept. mergekit divides by max(‖δ_i‖ ‖δ_j‖, 1e-6), which turns t to 0 for small deltas; here nothing is added.
"""

from __future__ import annotations

import numpy as np

from coldfuse.fusion.block import TensorInfo
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import LinearCombination, LinearCombiner, Measure
from coldfuse.fusion.spherical.sphere import deltas_on_sphere

_SINGULAR = 1e-6
"""1 + (C − 1) cos ω below which t has no value; as in mergekit."""


class ModelStock(LinearCombiner):
    """Go from the base to the mean, the farther the more the deltas agree."""

    summary = "a part of the mean, the larger the more the deltas agree"
    source = "arXiv 2403.19522"

    def measures(self) -> tuple[Measure, ...]:
        """Inner products of the deltas, by tensor."""
        return (gram("tensor"),)

    def combination(self, info: TensorInfo) -> LinearCombination:
        """Return c = t and d = C."""
        return LinearCombination(deltas_C=np.full(info.num_contributions, _t(info)), divisor=info.num_contributions)


def _t(info: TensorInfo) -> float:
    deltas, count = deltas_on_sphere(info), info.num_contributions
    if deltas.are_equal:
        return 1.0
    cosine = float(deltas.cosines_CC[np.triu_indices(count, 1)].mean())
    rest = 1 + (count - 1) * cosine
    return count * cosine / rest if rest > _SINGULAR else 0.0
