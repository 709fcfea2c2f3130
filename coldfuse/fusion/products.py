"""Inner products that are the same on every machine: a library's would depend on its version and the processor."""

from __future__ import annotations

from typing import Any

import numpy as np

from coldfuse.fusion.block import Float64
from coldfuse.fusion.compiling import compiled

_LANES = 512
"""Sums that are kept side by side, so that a processor can add several at once without changing their order."""


def inner_products(rows_CN: Float64) -> Float64:
    """Return G_ij = Σ_n r_in r_jn, shape (C, C)."""
    out_CC = np.zeros((len(rows_CN), len(rows_CN)))
    _inner_products(rows_CN, np.empty(_LANES), out_CC)
    return out_CC


def squared_lengths(rows_CN: Float64) -> Float64:
    """Return Σ_n r_in², shape (C,)."""
    return np.array([inner_products(row_N[None])[0, 0] for row_N in rows_CN])


@compiled
def _inner_products(rows: Any, lanes: Any, out: Any) -> None:
    for i in range(rows.shape[0]):
        for j in range(i + 1):
            lanes[:] = 0.0
            for first in range(0, rows.shape[1], lanes.size):
                left, right = rows[i, first : first + lanes.size], rows[j, first : first + lanes.size]
                for k in range(left.size):
                    lanes[k] += left[k] * right[k]
            total = 0.0
            for k in range(lanes.size):
                total += lanes[k]
            out[i, j] = total
            out[j, i] = total
