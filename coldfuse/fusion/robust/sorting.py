"""Sort what the contributions say of each element, many elements at a time.

A sorting network compares and exchanges the same pairs of rows whatever their values, so one pair is a minimum and a
maximum of two runs of elements, which a processor does four or eight at a time. The network is Batcher's odd-even merge
for any number of rows (Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2M).

Letters: C contributions, N elements, P pairs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.fusion.block import Float64
from coldfuse.fusion.compiling import compiled

_TILE_BYTES = 16384
"""What is sorted at a time: a processor's fastest cache holds two to four times as much."""


def sort_contributions(deltas_CN: Float64) -> None:
    """Sort every column in place, smallest first, for finite values.

    Minus zero becomes zero: the two are equal, so their order would be the order of the contributions.
    """
    count, num_elements = deltas_CN.shape
    width = min(max(64, _TILE_BYTES // (8 * count)), num_elements)
    _sort_tiles(deltas_CN, network(count), np.empty((count, width)))


@lru_cache(maxsize=64)
def network(count: int) -> NDArray[np.uint64]:
    """Return the pairs of rows to compare, in order, shape (P, 2); the smaller value goes to the first of a pair."""
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    runs = top  # of this length are being merged, Knuth's p
    while runs > 0:
        farthest, offset, distance = top, 0, runs  # Knuth's q, r, d
        while distance > 0:
            pairs += [(row, row + distance) for row in range(count - distance) if row & runs == offset]
            distance, farthest, offset = farthest - runs, farthest >> 1, runs
        runs >>= 1
    return np.array(pairs, np.uint64).reshape(len(pairs), 2)


@compiled
def _sort_tiles(deltas: Any, pairs: Any, tile: Any) -> None:
    count, width = tile.shape
    for first in range(0, deltas.shape[1], width):
        size = min(width, deltas.shape[1] - first)
        for i in range(count):
            low, high = deltas[i, first : first + size], tile[i]
            for k in range(size):
                high[k] = low[k] + 0.0  # -0.0 + 0.0 is 0.0
        for p in range(pairs.shape[0]):
            low, high = tile[pairs[p, 0]], tile[pairs[p, 1]]
            for k in range(size):
                a, b = low[k], high[k]
                low[k] = a if a < b else b
                high[k] = b if a < b else a
        for i in range(count):
            deltas[i, first : first + size] = tile[i, :size]
