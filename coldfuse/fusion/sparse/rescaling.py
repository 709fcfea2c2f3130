"""mergekit's way to make up for dropped entries: multiply by Σ |δ| / Σ |m δ|, so that a tensor's L1 norm stays.

mergekit leaves a tensor with a norm below 1e-7 as it is; here every tensor of which something is left is rescaled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from coldfuse.fusion.block import Block, Float64, Rows, TensorInfo
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Sums

_LANES = 512
"""Sums that are kept side by side, so that a processor can add several at once without changing their order."""


def norms(drop: Callable[[Float64, Rows, Block], None]) -> Sums:
    """Measure Σ |δ_i| and Σ |m δ_i| of each tensor, shape (C, 2); `drop` sets entries to zero in place."""

    def of(block: Block) -> Float64:
        sums_C2 = np.empty((len(block.deltas_CN), 2))
        for index, delta_N in enumerate(block.deltas_CN):
            masked_1N = delta_N[None].copy()
            drop(masked_1N, np.array([index]), block)
            sums_C2[index] = l1_norm(delta_N), l1_norm(masked_1N[0])
        return sums_C2

    return Sums(name="norms", of=of, per="tensor")


def norm_ratios(info: TensorInfo) -> Float64:
    """Return Σ |δ_i| / Σ |m δ_i|, shape (C,); 1 if next to nothing is left (0, or so little that it is not finite)."""
    before_C, after_C = info.measured["norms"].T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio_C = before_C / after_C
    return np.where(np.isfinite(ratio_C), ratio_C, 1.0)


def l1_norm(delta_N: Float64) -> float:
    """Return Σ |δ|, summed in an order that is the same on every machine."""
    return float(_l1_norm(delta_N, np.zeros(_LANES)))


def with_mergekit_defaults(values: Any, defaults: Mapping[str, object]) -> Any:
    """Put mergekit's defaults under what a user gave, if the user asked for its variant."""
    if isinstance(values, Mapping) and values.get("variant") == "mergekit":
        return {**defaults, **values}
    return values


@compiled
def _l1_norm(delta: Any, lanes: Any) -> Any:
    for first in range(0, delta.size, _LANES):
        for k in range(min(_LANES, delta.size - first)):
            lanes[k] += abs(delta[first + k])
    total = 0.0
    for k in range(_LANES):
        total += lanes[k]
    return total
