"""Deltas as they lie in their files, and what a formula can do with them without holding all of them in float64.

Decoding, subtracting and counting in one loop over a few hundred elements, which stay in a core's first cache, takes a
third of the time of three loops over a block. A formula that has no such loop gets a block (`block.Block`).

Letters: C contributions, N elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from coldfuse.core.dtypes import Raw
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.fusion.compiling import chosen_by_type, compiled
from coldfuse.fusion.kernels import Elements, elements, wide
from coldfuse.fusion.selection import Counts, Windows

_TILE = 1024
"""Number of keys that are made before those inside of a window are looked for: few tiles have more than a handful."""

_INFINITE = 0x7F800000
"""The key of infinity; those of NaN are larger."""


@dataclass(frozen=True, kw_only=True)
class DeltaRows:
    """N elements of one tensor's deltas, one row a contribution, all of one dtype and all there."""

    raw: Raw
    """The rows' little-endian bytes, one after the other."""
    dtype: str
    base: Raw | None
    """θ_t in the rows' dtype, which is to be subtracted; None: the rows are deltas."""
    num_rows: int

    @property
    def flat(self) -> Elements:
        """All rows' elements as the kernels take them."""
        return elements(self.raw, self.dtype)

    @property
    def before(self) -> Elements:
        """The base's elements as the kernels take them; zeros if the rows are deltas."""
        if self.base is not None:
            return elements(self.base, self.dtype)
        return _zeros(self.flat.size // self.num_rows, self.dtype)


def count_rows(windows: Windows, rows: DeltaRows, counts: Counts) -> bool:
    """Count the deltas in their windows (changes `counts`), as `selection.count` does with a block of them.

    Returns:
        False if some delta, rounded to float32, is not finite.
    """
    return bool(
        _count(
            rows.flat, rows.before, windows.row_R, windows.low_R, windows.shift_R, counts.below_R, counts.bins_RB
        )
    )  # fmt: skip


@lru_cache(maxsize=4)
def _zeros(count: int, dtype: str) -> Elements:
    zeros = elements(np.zeros(count * ITEM_BYTES[dtype], np.uint8), dtype)
    zeros.flags.writeable = False
    return zeros


def _key_of_narrow(element: Any, base: Any) -> Any:
    # The difference of two numbers of float32 rounds to the same float32 as their exact difference in float64 does.
    return np.float32(np.float32(wide(element)) - np.float32(wide(base))).view(np.uint32) & np.uint32(0x7FFFFFFF)


def _key_of_double(element: Any, base: Any) -> Any:
    return np.float32(element - base).view(np.uint32) & np.uint32(0x7FFFFFFF)


def _key_by_type(element: Any, base: Any) -> Any:  # noqa: ARG001  # numba matches arguments by name
    return _key_of_double if str(element) == "float64" else _key_of_narrow


@chosen_by_type(_key_by_type)
def _key(element: Any, base: Any) -> Any:
    """Return the bits of float32(|element − base|), by which magnitudes are ranked."""
    raise NotImplementedError(f"{element}, {base}: for compiled code")


@compiled
def _count(flat: Any, base: Any, row_R: Any, low_R: Any, shift_R: Any, below_R: Any, bins_RB: Any) -> Any:  # noqa: PLR0913
    is_finite: Any = True
    keys = np.empty(_TILE, np.uint32)
    for r in range(row_R.size):
        if shift_R[r] >= 0:
            row = flat[row_R[r] * base.size : (row_R[r] + 1) * base.size]
            below, finite = _count_row(row, base, low_R[r], shift_R[r], bins_RB[r], keys)
            below_R[r] += below
            is_finite &= finite
    return is_finite


@compiled
def _count_row(row: Any, base: Any, low: Any, shift: Any, bins: Any, keys: Any) -> Any:
    below: Any = np.int64(0)
    worst: Any = np.uint32(0)
    width = np.uint32(min((bins.size << shift), (1 << 31) - low))
    first_key = np.uint32(low)
    for first in range(0, row.size, keys.size):
        run, before = row[first : first + keys.size], base[first : first + keys.size]
        under: Any = np.uint32(0)
        inside: Any = np.uint32(0)
        for n in range(run.size):
            keys[n] = _key(run[n], before[n])
        for n in range(run.size):  # apart: in one loop with the above, a processor cannot do several at once
            full = keys[n]
            worst = full if full > worst else worst
            key = np.uint32(full - first_key)
            under = np.uint32(under + np.uint32(key >= np.uint32(1 << 31)))  # below the window it wrapped around
            inside = np.uint32(inside + np.uint32(key < width))
            keys[n] = key
        below += np.int64(under)
        if inside > 0:
            for n in range(run.size):
                if keys[n] < width:
                    bins[keys[n] >> np.uint32(shift)] += np.uint32(1)
    return below, worst < np.uint32(_INFINITE)
