"""The exact r-th smallest of more numbers than fit into memory: windows of counters that close in on it.

Magnitudes are ranked as float32, as the methods' own code does: the bits of a float32 without its sign grow with its
magnitude, so a magnitude is a key of 31 bits. A window counts, in one pass over all numbers, how many keys lie below it
and how many in each of its bins. The bin that holds the wanted rank is the next window, until a bin is a single key. A
good first guess (from a sample) makes one pass enough; a bad one costs another pass and never the result. Counts are
integers: the order in which they are added does not matter.

Letters: R windows (one for each row and rank), B bins, N values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.fusion.block import Float64
from coldfuse.fusion.compiling import compiled

_NUM_KEYS = 1 << 31
_MOST_COUNTERS = 1 << 20
"""Counters of all windows of a tensor or model, 4 bytes each."""
_MOST_BINS, _FEWEST_BINS = 1 << 18, 1 << 8
_TILE = 256
_MARGIN = 4.0
"""Half the width of a first window in standard errors of the sample's rank; samples that lie side by side are alike."""


@dataclass(frozen=True)
class Windows:
    """Where to count: for window r the keys from `low_R` on, 2^shift of them in a bin, of row `row_R`."""

    row_R: NDArray[np.int64]
    rank_R: NDArray[np.int64]
    low_R: NDArray[np.int64]
    shift_R: NDArray[np.int64]
    num_bins: int

    @property
    def found(self) -> Float64 | None:
        """The values, once every window is one key wide; shape (R,)."""
        if (self.shift_R >= 0).any():
            return None
        return self.low_R.astype(np.uint32).view(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Packed:
    """What one task counted, without the counters that stayed at zero: most of them."""

    below_R: NDArray[np.int64]
    place_M: NDArray[np.uint32]
    """Which counters, of all windows' one after the other."""
    count_M: NDArray[np.integer]


@dataclass(frozen=True)
class Counts:
    """What was counted in windows."""

    below_R: NDArray[np.int64]
    bins_RB: NDArray[np.integer]

    def pack(self) -> Packed:
        """Return what a task found, to be sent."""
        bins = self.bins_RB.reshape(-1)
        places = np.flatnonzero(bins)
        return Packed(self.below_R, places.astype(np.uint32), bins[places])

    def add(self, other: Packed) -> None:
        """Count those of a task, too (changes these, which must be a total)."""
        np.add(self.below_R, other.below_R, out=self.below_R)
        self.bins_RB.reshape(-1)[other.place_M] += other.count_M.astype(self.bins_RB.dtype)


def all_keys(num_rows: int, ranks: Sequence[int] | NDArray[np.int64], num_values: int) -> Windows:
    """Return windows over everything, for these ranks (for all rows, or as an array for each) of so many values."""
    rank_RK = ranks_of_rows(num_rows, ranks)
    row_R, rank_R = np.repeat(np.arange(num_rows), rank_RK.shape[1]), rank_RK.reshape(-1)
    counters = min(_MOST_COUNTERS // max(len(row_R), 1), max(num_values // 16, _FEWEST_BINS))
    bins = 1 << (min(max(counters, _FEWEST_BINS), _MOST_BINS).bit_length() - 1)
    low_R, width_R = np.zeros(len(row_R), np.int64), np.full(len(row_R), _NUM_KEYS)
    return Windows(row_R, rank_R, low_R, _shifts(width_R, bins), bins)


def ranks_of_rows(num_rows: int, ranks: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ranks of each row, shape (R, number of ranks): the same for all, unless they are given so.

    >>> ranks_of_rows(2, [3, 5]).tolist(), ranks_of_rows(2, np.array([[1], [2]])).tolist()
    ([[3, 5], [3, 5]], [[1], [2]])
    """
    found = np.asarray(ranks, np.int64)
    return found if found.ndim == 2 else np.tile(found, (num_rows, 1))


def guess(windows: Windows, sample_RM: NDArray[np.float32], num_values: int) -> Windows:
    """Narrow windows to where a sample of M values of each row says that the ranks lie."""
    lows, widths = [], []
    for row, rank in zip(windows.row_R, windows.rank_R, strict=True):
        keys = np.sort(keys_of(sample_RM[row]))
        share = (rank + 0.5) / num_values
        margin = _MARGIN * np.sqrt(share * (1 - share) * len(keys)) + 1
        first, last = max(int(share * len(keys) - margin), 0), min(int(share * len(keys) + margin), len(keys) - 1)
        lows.append(int(keys[first]))
        # At least two keys, so that it is counted: where values are few (bfloat16), a sample may hold just one there.
        widths.append(max(int(keys[last]) - int(keys[first]) + 1, 2))
    shift_R = _shifts(np.array(widths), windows.num_bins)
    return Windows(windows.row_R, windows.rank_R, np.array(lows), shift_R, windows.num_bins)


def narrow(windows: Windows, counts: Counts) -> Windows:
    """Return the next windows: the bin that holds each rank, or what lies beside a window that missed it."""
    low_R, width_R = windows.low_R.copy(), np.zeros(len(windows.low_R), np.int64)
    for r, (low, shift) in enumerate(zip(windows.low_R.tolist(), windows.shift_R.tolist(), strict=True)):
        if shift < 0:  # found before
            continue
        ends_B = counts.below_R[r] + np.cumsum(counts.bins_RB[r], dtype=np.int64)
        rank = windows.rank_R[r]
        if rank < counts.below_R[r]:
            low_R[r], width_R[r] = 0, low
        elif rank >= ends_B[-1]:
            low_R[r] = low + (windows.num_bins << shift)
            width_R[r] = _NUM_KEYS - low_R[r]
        else:
            index = int(np.searchsorted(ends_B, rank, side="right"))
            low_R[r], width_R[r] = low + (index << shift), 1 << shift
    return Windows(windows.row_R, windows.rank_R, low_R, _shifts(width_R, windows.num_bins), windows.num_bins)


def nothing(windows: Windows, num_values: int = 0) -> Counts:
    """Return counts of nothing, with room for so many values in a bin: 32 bits are enough for those of a task."""
    num, dtype = len(windows.low_R), np.uint32 if num_values < 1 << 32 else np.uint64
    return Counts(np.zeros(num, np.int64), np.zeros((num, windows.num_bins), dtype))


def count(windows: Windows, values_RN: Float64, counts: Counts) -> None:
    """Count a block of values in their windows (changes `counts`, which must be a task's own: 32 bits each)."""
    scratch = np.empty(_TILE, np.uint32)
    _count(values_RN, windows.row_R, windows.low_R, windows.shift_R, counts.below_R, counts.bins_RB, scratch)


def keys_of(values: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Return the keys by which magnitudes are ranked."""
    return np.abs(values.astype(np.float32)).view(np.uint32)


def _shifts(width_R: NDArray[np.int64], num_bins: int) -> NDArray[np.int64]:
    """Return the smallest shifts with which windows of so many keys fit into the bins; −1 for a single key."""
    bits = [max(int(width - 1).bit_length() - (num_bins.bit_length() - 1), 0) for width in width_R]
    return np.where(width_R <= 1, -1, np.array(bits, np.int64))


@compiled
def _count(values_RN: Any, row_R: Any, low_R: Any, shift_R: Any, below_R: Any, bins_RB: Any, keys: Any) -> None:  # noqa: PLR0913
    for r in range(row_R.size):
        if shift_R[r] >= 0:
            below_R[r] += _count_row(values_RN[row_R[r]], low_R[r], shift_R[r], bins_RB[r], keys)


@compiled
def _count_row(values: Any, low: Any, shift: Any, bins: Any, keys: Any) -> Any:
    below: Any = 0
    width = np.uint32(min((bins.size << shift), (1 << 31) - low))
    base = np.uint32(low)
    for first in range(0, values.size, keys.size):
        run = values[first : first + keys.size]
        under: Any = np.uint32(0)
        inside: Any = np.uint32(0)
        for n in range(run.size):
            key = np.uint32(np.float32(abs(run[n])).view(np.uint32) - base)
            under = np.uint32(under + np.uint32(key >= np.uint32(1 << 31)))  # below the window it wrapped around
            inside = np.uint32(inside + np.uint32(key < width))
            keys[n] = key
        below += np.int64(under)
        if inside > 0:
            for n in range(run.size):
                if keys[n] < width:
                    bins[keys[n] >> np.uint32(shift)] += np.uint32(1)
    return below
