"""Elect a sign for every element and merge the contributions that have it (TIES, arXiv 2306.01708, section 4).

    γ = sgn(Σ_i v_i δ_i)      A = {i : sgn(w_i δ_i) = γ}      δ = Σ_A w_i δ_i / Σ_A w_i

over the entries that are kept: those with float32(|δ_i|) ≥ threshold_i. Where a vote is exactly 0, `lean` decides if it
is a sign, else the side with more weight does; if both sides weigh the same, the element stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coldfuse.fusion.block import Float64
from coldfuse.fusion.compiling import compiled
from coldfuse.fusion.kernels import wide
from coldfuse.fusion.rows import DeltaRows

_TILE = 512
"""Elements whose sums are kept in the processor's first cache while the contributions are read one after the other."""


def elect(
    deltas_CN: Float64,
    *,
    thresholds_C: Float64 | None = None,
    votes_C: Float64 | None = None,
    weights_C: Float64 | None = None,
    lean: float = 0.0,
    mean: bool = True,
) -> Float64:
    """Return the merged delta, shape (N,). Votes v and weights w are 1, and all entries are kept, if not given.

    Args:
        deltas_CN: δ_i; not changed.
        thresholds_C: below which an entry counts as 0.
        votes_C: v_i
        weights_C: w_i
        lean: the sign of a vote that is exactly 0; 0 lets the sides' weights decide.
        mean: divide by Σ_A w_i (1 if that is 0).
    """
    rules_C3 = _rules(len(deltas_CN), thresholds_C, votes_C, weights_C)
    out_N = np.empty(deltas_CN.shape[1])
    _elect(deltas_CN, rules_C3, float(lean), mean, np.empty(5 * _TILE), out_N)
    return out_N


def elect_rows(
    rows: DeltaRows,
    *,
    thresholds_C: Float64 | None = None,
    votes_C: Float64 | None = None,
    weights_C: Float64 | None = None,
    lean: float = 0.0,
    mean: bool = True,
) -> tuple[Float64, bool]:
    """Do what `elect` does with deltas as they lie in their files; the same bits.

    Returns:
        The merged delta, and False if some delta is not finite.
    """
    rules_C3 = _rules(rows.num_rows, thresholds_C, votes_C, weights_C)
    out_N = np.empty(rows.before.size)
    sums = np.empty(5 * _TILE)
    return out_N, bool(_elect_rows(rows.flat, rows.before, rules_C3, float(lean), mean, sums, out_N))


def _rules(count: int, thresholds_C: Float64 | None, votes_C: Float64 | None, weights_C: Float64 | None) -> Float64:
    rules_C3 = np.ones((count, 3))
    rules_C3[:, 0] = 0.0
    for column, given_C in enumerate((thresholds_C, votes_C, weights_C)):
        if given_C is not None:
            rules_C3[:, column] = given_C
    return rules_C3


@compiled
def _elect(deltas: Any, rules: Any, lean: Any, mean: Any, sums: Any, out: Any) -> None:
    for first in range(0, out.size, _TILE):
        width = min(_TILE, out.size - first)
        sums[:] = 0.0
        for i in range(deltas.shape[0]):
            _add(deltas[i, first : first + width], rules[i], sums)
        _decide(sums, lean, mean, out[first : first + width])


@compiled
def _add(delta: Any, rule: Any, sums: Any) -> None:
    # sums: the vote, then Σ w δ and Σ w of the positive side, then those of the negative side
    threshold, vote, weight = np.float32(rule[0]), rule[1], rule[2]
    for k in range(delta.size):
        kept = delta[k] if np.float32(abs(delta[k])) >= threshold else 0.0
        weighted = kept * weight
        sums[k] += kept * vote
        sums[_TILE + k] += weighted if weighted > 0.0 else 0.0
        sums[2 * _TILE + k] += weight if weighted > 0.0 else 0.0
        sums[3 * _TILE + k] += weighted if weighted < 0.0 else 0.0
        sums[4 * _TILE + k] += weight if weighted < 0.0 else 0.0


@compiled
def _decide(sums: Any, lean: Any, mean: Any, out: Any) -> None:
    for k in range(out.size):
        positive, negative = sums[_TILE + k], sums[3 * _TILE + k]
        weights_of_positive, weights_of_negative = sums[2 * _TILE + k], sums[4 * _TILE + k]
        tie = lean if lean != 0.0 else weights_of_positive - weights_of_negative
        sign = sums[k] if sums[k] != 0.0 else tie
        total = positive if sign > 0.0 else negative
        weight = weights_of_positive if sign > 0.0 else weights_of_negative
        divisor = weight if mean and weight != 0.0 else 1.0
        out[k] = total / divisor if sign != 0.0 else 0.0


@compiled
def _elect_rows(flat: Any, base: Any, rules: Any, lean: Any, mean: Any, sums: Any, out: Any) -> Any:  # noqa: PLR0913
    finite: Any = True
    before, delta = np.empty(_TILE), np.empty(_TILE)
    for first in range(0, out.size, _TILE):
        width = min(_TILE, out.size - first)
        for k in range(width):
            before[k] = wide(base[first + k])
        sums[:] = 0.0
        for i in range(rules.shape[0]):
            row = flat[i * out.size + first : i * out.size + first + width]
            for k in range(width):
                value = wide(row[k]) - before[k]
                finite &= abs(value) < np.inf
                delta[k] = value
            _add(delta[:width], rules[i], sums)
        _decide(sums, lean, mean, out[first : first + width])
    return finite
