"""TIES's first step alone: keep the largest entries of each contribution, set the others to zero.

    m_i = float32(|δ_i|) ≥ the k-th smallest of them, k = d − int(d · density)      δ_i ← m_i δ_i

over the whole model of d elements, as in the authors' code (arXiv 2306.01708), so int(d · density) + 1 entries stay.
mergekit keeps int(density · n), at least 1, of each tensor. Entries that tie with the last one kept stay too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from coldfuse.fusion.arrays import is_numpy, namespace, sizes
from coldfuse.fusion.block import Array, Block, Float64, Rows, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Measure, Ranked, Scope, Transform, Variant
from coldfuse.fusion.sparse.rescaling import with_mergekit_defaults


class Trim(Transform):
    """Keeps the largest entries of each contribution."""

    summary = "keep the largest entries of each contribution (the first step of TIES)"
    source = "arXiv 2306.01708, section 4; its authors' code"

    on_device: ClassVar[bool] = True

    density: float = Field(0.2, gt=0, le=1)
    """Fraction of entries that stay; 1 keeps all, the default in mergekit's flavour."""
    flavour: Variant = "paper"
    """paper ranks over the whole model, mergekit within each tensor."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        return with_mergekit_defaults(values, {"density": 1.0})

    def measures(self) -> tuple[Measure, ...]:
        """Each contribution's threshold."""
        return trimming(self.density, self.flavour)

    def transform(self, deltas_RN: Float64, rows_R: Rows, block: Block) -> None:
        """Set entries below the threshold to zero."""
        thresholds_R = thresholds(block.info)[rows_R]
        if is_numpy(deltas_RN):
            _trim(deltas_RN, thresholds_R)
            return
        for delta_N, threshold in zip(deltas_RN, thresholds_R.tolist(), strict=True):
            delta_N[...] = kept(delta_N, threshold)


def trimming(density: float, flavour: Variant) -> tuple[Measure, ...]:
    """Measure what `thresholds` reads; nothing if all entries are kept."""

    def ranks(count: int, _: Mapping[str, Float64]) -> Sequence[int]:
        if flavour == "paper":
            return (count - int(count * density) - 1,)
        return (count - max(1, int(density * count)),)

    if density == 1:
        return ()
    per: Scope = "model" if flavour == "paper" else "tensor"
    return (Ranked(name="thresholds", of=_deltas, ranks=ranks, per=per, on_device=True),)


def kept(delta_N: Array, threshold: float) -> Array:
    """Return m δ, of arrays other than numpy's."""
    return namespace(delta_N).where(sizes(delta_N) >= float(np.float32(threshold)), delta_N, 0.0)


def thresholds(info: TensorInfo) -> Float64:
    """Return what `trimming` measured, shape (C,); zeros, which keep all entries, if there was nothing to measure."""
    measured_C1 = info.measured.get("thresholds")
    return np.zeros(info.num_contributions) if measured_C1 is None else measured_C1[:, 0]


def _deltas(block: Block) -> Float64:
    return block.deltas_CN


@compiled
def _trim(deltas: Any, thresholds: Any) -> None:
    for r in range(thresholds.size):
        delta, least = deltas[r], np.float32(thresholds[r])
        for k in range(delta.size):
            delta[k] = delta[k] if np.float32(abs(delta[k])) >= least else 0.0
