"""PCB-Merging: parameters compete within each contribution and between them (arXiv 2410.02396).

    a_i = |δ_i|, clamped to its 0.01 % and 99.99 % quantiles over the whole model
    s_i = exp(C · ((a_i − min a_i) / (max a_i − min a_i))²) · tanh(δ_i · Σ_j δ_j)
    s_i ← (s_i − q_i) / (max s_i − q_i) where s_i is above its (1 − ratio) quantile q_i over the whole model, else 0
    δ = scale · Σ_i s_i · sgn(δ_i) a_i / Σ_i s_i

Quantiles are entries of the sorted values, at the places that the authors' code takes; scores are rounded to float32,
the precision of that code. exp(C · …) is computed up to a constant factor, which the min-max scaling takes out again.
Where all of a contribution's scores are equal, they are 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.method import Combiner, Measure, Ranked
from coldfuse.fusion.sparse.elementary import exp, tanh

_CLAMPED = 0.0001
_LARGEST_EXPONENT = 80.0
"""Scores are multiplied by e^-shift so that they stay within float32, whatever C is."""


class Pcb(Combiner):
    """Weighs each entry by its size and by its agreement with the others."""

    summary = "weigh each entry by its size and its agreement, drop low scores (PCB)"
    source = "arXiv 2410.02396; its authors' code"

    ratio: float = Field(0.1, gt=0, le=1)
    """Fraction of each contribution's entries that count: those with the highest scores."""
    scale: float = 1.0
    """Factor λ of the fused delta; the authors also use 1.2."""

    def measures(self) -> tuple[Measure, ...]:
        """Quantiles of |δ_i|, then of the scores: those of their positive parts, then of their negative parts."""
        return (
            Ranked(name="sizes", of=lambda block: block.deltas_CN, ranks=_size_ranks, of_deltas=True),
            Ranked(name="scores", of=_parts, ranks=self._score_ranks, rows=lambda count: 2 * count),
        )

    def fuse(self, block: Block) -> Float64:
        """Return scale · the mean of the clamped deltas, weighted by their scores."""
        total_N, weight_N = np.zeros(len(block.base_N)), np.zeros(len(block.base_N))
        bounds_C2 = score_bounds(block.info.measured["scores"])
        sizes_C2 = block.info.measured["sizes"]
        for i, score_N in enumerate(_scores(block)):
            _add(block.deltas_CN[i], score_N, np.concatenate([sizes_C2[i], bounds_C2[i]]), total_N, weight_N)
        return self.scale * total_N / np.maximum(weight_N, 1e-12)

    def _score_ranks(self, count: int, _: Mapping[str, Float64]) -> Sequence[int]:
        low = min(int(count * (1 - self.ratio)), count - 1)
        return (low, count - 1, count - 1 - low, 0)


def score_bounds(parts_RK: Float64) -> Float64:
    """Return q_i and max s_i, shape (C, 2), from the ranks of the scores' positive and negative parts.

    A rank r of signed numbers is the rank r of their positive parts or, if that is 0, minus the rank N − 1 − r of their
    negative parts.
    """
    positive_CK, negative_CK = np.split(parts_RK, 2)
    return np.where(positive_CK[:, :2] > 0, positive_CK[:, :2], -negative_CK[:, 2:])


def _size_ranks(count: int, _: Mapping[str, Float64]) -> Sequence[int]:
    return (int(count * _CLAMPED), int(count * (1 - _CLAMPED) - 1))


def _parts(block: Block) -> Float64:
    count, size = block.deltas_CN.shape
    parts_RN = np.empty((2 * count, size))
    for i, score_N in enumerate(_scores(block)):
        np.maximum(score_N, 0.0, out=parts_RN[i])
        np.maximum(-score_N, 0.0, out=parts_RN[count + i])
    return parts_RN


def _scores(block: Block) -> Iterator[Float64]:
    sum_N = np.zeros(len(block.base_N))
    for delta_N in block.deltas_CN:
        sum_N += delta_N
    for delta_N, bounds_2 in zip(block.deltas_CN, block.info.measured["sizes"], strict=True):
        score_N = np.empty(len(sum_N))
        _place(delta_N, bounds_2, score_N)
        _score(delta_N, sum_N, block.info.num_contributions, score_N)
        yield score_N


@compiled
def _clamp(size: Any, low: Any, high: Any) -> Any:
    rounded = np.float64(np.float32(size))  # as ranked, so that a value that is itself a bound stays as it is
    return low if rounded < low else high if rounded > high else size


@compiled
def _place(delta: Any, bounds: Any, out: Any) -> None:
    low, high = bounds[0], bounds[1]
    width = high - low if high > low else np.inf
    for k in range(delta.size):
        out[k] = min(max(np.divide(_clamp(abs(delta[k]), low, high) - low, width), 0.0), 1.0)


@compiled
def _score(delta: Any, total: Any, count: Any, out: Any) -> None:
    shift = max(0.5 * count, count - _LARGEST_EXPONENT)
    for k in range(delta.size):
        out[k] = np.float32(exp(count * out[k] * out[k] - shift) * tanh(delta[k] * total[k]))


@compiled
def _add(delta: Any, score: Any, bounds: Any, total: Any, weights: Any) -> None:
    low, high, least, most = bounds[0], bounds[1], bounds[2], bounds[3]
    for k in range(delta.size):
        weight = max(score[k] - least, 0.0) / (most - least) if most > least else 1.0
        size = _clamp(abs(delta[k]), low, high)
        value = size if delta[k] > 0.0 else -size if delta[k] < 0.0 else 0.0
        total[k] += weight * value
        weights[k] += weight
