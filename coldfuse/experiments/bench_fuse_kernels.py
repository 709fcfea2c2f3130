"""Loops of the hand-written bounds: single precision, sums in any order, tiles that stay in the fastest cache.

`rows` holds the same elements of all contributions, one a row, as they lie in the files: float32, or bfloat16 as
uint16. Only the first `count` elements of a row are there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coldfuse.experiments.bench_fuse_elements import fast, load, store

_TILE = 1024

_SHORT = 32
"""A run of which few hold anything that lies in a window."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
"""A plain 0 beside single precision would make it double."""

_MANY = np.float32(4096.0)
"""More than there are contributions."""

_HUGE = np.float32(3e38)
"""Above every window."""


@fast
def _widen(row: Any, out: Any) -> None:
    for k in range(row.size):
        out[k] = load(row[k])


@fast
def _add(row: Any, total: Any) -> None:
    for k in range(row.size):
        total[k] += load(row[k])


@fast
def _write_scaled(values: Any, share: Any, out: Any) -> None:
    for k in range(out.size):
        out[k] = store(values[k] * share, out[k])


@fast
def _exchange(low: Any, high: Any) -> None:
    for k in range(low.size):
        a, b = low[k], high[k]
        low[k] = a if a < b else b
        high[k] = b if a < b else a


@fast
def _delta(row: Any, base: Any, mask: Any, start: Any, out: Any) -> None:
    """Write row − base; where mask = (key, least) says so, some are dropped at random, and the others grow."""
    for k in range(row.size):
        out[k] = load(row[k]) - load(base[k])
    key, least = np.uint32(mask[0]), np.uint32(mask[1])
    if least == 0:
        return
    factor = np.float32(1.0 / (1.0 - least / 2.0**32))
    first = np.uint32(key + np.uint32(start))
    for k in range(row.size):
        # a hash of 32 bits, "lowbias32" of Chris Wellons' hash prospector
        bits = np.uint32(first + np.uint32(k))
        bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
        bits = np.uint32((bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B))
        bits = np.uint32(bits ^ (bits >> np.uint32(16)))
        out[k] = out[k] * factor if bits >= least else np.float32(0.0)


@fast
def _count_tile(tile: Any, low: Any, high: Any, found: Any) -> Any:
    """Count what lies in the window, each by its bits, and return how many are below it."""
    short = tile.reshape(-1, _SHORT)
    bits = short.view(np.uint32)
    origin = np.int64(np.float32(low).view(np.uint32))
    below = 0
    for j in range(short.shape[0]):
        under: Any = np.int32(0)
        within: Any = np.int32(0)
        for k in range(_SHORT):
            size = abs(short[j, k])
            short[j, k] = size
            under += np.int32(size < low)
            within += np.int32((size >= low) & (size <= high))
        below += under
        for k in range(_SHORT if within else 0):
            if low <= short[j, k] <= high:
                found[np.int64(bits[j, k]) - origin] += 1
    return below


@fast
def _vote(delta: Any, least: Any, sums: Any) -> None:
    # sums: of the positive, of the negative, and the numbers of both in one; at constant distances, which the compiler
    # must know to do several elements at once
    for k in range(delta.size):
        kept = delta[k] if abs(delta[k]) >= least else _ZERO
        sums[k] += kept if kept > _ZERO else _ZERO
        sums[_TILE + k] += kept if kept < _ZERO else _ZERO
        sums[2 * _TILE + k] += _ONE if kept > _ZERO else (_MANY if kept < _ZERO else _ZERO)


@fast
def _merge(sums: Any) -> None:
    for k in range(_TILE):
        positive, negative = sums[k], sums[_TILE + k]
        num_negative = np.floor(sums[2 * _TILE + k] / _MANY)
        num_positive = sums[2 * _TILE + k] - num_negative * _MANY
        vote = positive + negative
        vote = vote if vote != _ZERO else num_positive - num_negative
        merged = positive / num_positive if vote > _ZERO else negative / num_negative
        sums[k] = merged if vote != _ZERO else _ZERO


@fast
def average(rows: Any, count: Any, out: Any) -> None:
    """Write Σ rows / C."""
    total = np.empty(_TILE, np.float32)
    share = np.float32(1.0 / rows.shape[0])
    for start in range(0, count, _TILE):
        end = min(start + _TILE, count)
        total[:] = 0.0
        for c in range(rows.shape[0]):
            _add(rows[c, start:end], total)
        _write_scaled(total, share, out[start:end])


@fast
def middle(rows: Any, count: Any, pairs: Any, first: Any, end: Any, out: Any) -> None:
    """Compare and exchange pairs of rows, then average the rows from `first` to before `end`."""
    tile = np.empty((rows.shape[0], _TILE), np.float32)
    share = np.float32(1.0 / (end - first))
    for start in range(0, count, _TILE):
        stop = min(start + _TILE, count)
        for c in range(rows.shape[0]):
            _widen(rows[c, start:stop], tile[c])
        for p in range(pairs.shape[0]):
            _exchange(tile[pairs[p, 0]], tile[pairs[p, 1]])
        for c in range(first + 1, end):
            _add(tile[c], tile[first])
        _write_scaled(tile[first], share, out[start:stop])


@fast
def without_extremes(rows: Any, count: Any, out: Any) -> None:
    """Write (Σ rows − min − max) / (C − 2)."""
    total, low, high = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    share = np.float32(1.0 / (rows.shape[0] - 2))
    for start in range(0, count, _TILE):
        end = min(start + _TILE, count)
        for target in (total, low, high):
            _widen(rows[0, start:end], target)
        for c in range(1, rows.shape[0]):
            row = rows[c, start:end]
            for k in range(row.size):
                value = load(row[k])
                total[k] += value
                low[k] = value if value < low[k] else low[k]
                high[k] = value if value > high[k] else high[k]
        for k in range(total.size):
            total[k] -= low[k] + high[k]
        _write_scaled(total, share, out[start:end])


@fast
def square_sum(row: Any, count: Any) -> Any:
    """Return Σ row²."""
    total = 0.0
    for start in range(0, count, _TILE):
        part: Any = np.float32(0.0)
        tile = row[start : min(start + _TILE, count)]
        for k in range(tile.size):
            part += tile[k] * tile[k]
        total += part
    return total


@fast
def weigh(rows: Any, fisher: Any, scale: Any, least: Any, count: Any, out: Any) -> None:
    """Write Σ λ F rows / Σ λ F, where F is `fisher`, but at least `least`, and λ is `scale`."""
    top, bottom = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    for start in range(0, count, _TILE):
        end = min(start + _TILE, count)
        top[:] = 0.0
        bottom[:] = 0.0
        for c in range(rows.shape[0]):
            row, information = rows[c, start:end], fisher[c, start:end]
            for k in range(row.size):
                known = scale[c] * (information[k] if information[k] > least[c] else least[c])
                top[k] += known * load(row[k])
                bottom[k] += known
        for k in range(top.size):
            top[k] /= bottom[k]
        _write_scaled(top, np.float32(1.0), out[start:end])


@fast
def drop_and_average(rows: Any, base: Any, masks: Any, count: Any, out: Any) -> None:
    """Write base + Σ m δ / C, with a random mask for every row."""
    delta, total = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    share = np.float32(1.0 / rows.shape[0])
    for start in range(0, count, _TILE):
        end = min(start + _TILE, count)
        total[:] = 0.0
        for c in range(rows.shape[0]):
            _delta(rows[c, start:end], base[start:end], masks[c], start, delta)
            _add(delta, total)
        add_share(base[start:end], total, share, out[start:end])


@fast
def sizes(row: Any, base: Any, mask: Any, count: Any, out: Any) -> None:
    """Write |δ|."""
    for start in range(0, count, _TILE):
        end = min(start + _TILE, count)
        tile = out[start:end]
        _delta(row[start:end], base[start:end], mask, start, tile)
        for k in range(tile.size):
            tile[k] = abs(tile[k])


@fast
def count_sizes(rows: Any, base: Any, masks: Any, windows: Any, count: Any, below: Any, found: Any) -> None:  # noqa: PLR0913
    """Count each row's |δ| in its window, by their bits, and those below it."""
    tile = np.empty(_TILE, np.float32)
    for start in range(0, count, _TILE):
        end = min(start + _TILE, count)
        tile[end - start :] = _HUGE
        for c in range(rows.shape[0]):
            _delta(rows[c, start:end], base[start:end], masks[c], start, tile)
            below[c] += _count_tile(tile, windows[c, 0], windows[c, 1], found[c])


@fast
def elect(rows: Any, base: Any, masks: Any, thresholds: Any, count: Any, out: Any) -> None:
    """TIES's second and third step: write base + the mean of the large deltas that have the sign of their sum."""
    delta, sums = np.empty(_TILE, np.float32), np.empty(3 * _TILE, np.float32)
    for start in range(0, count, _TILE):
        end = min(start + _TILE, count)
        sums[:] = 0.0
        for c in range(rows.shape[0]):
            _delta(rows[c, start:end], base[start:end], masks[c], start, delta)
            _vote(delta, thresholds[c], sums)
        _merge(sums)
        add_share(base[start:end], sums, np.float32(1.0), out[start:end])


@fast
def add_between(row: Any, base: Any, bounds: Any, width: Any, count: Any, total: Any) -> None:
    """Add the deltas whose size lies between the bounds of their row of a matrix, which is `width` long."""
    for r in range(count // width):
        low, high = bounds[r, 0], bounds[r, 1]
        line, before = row[r * width : (r + 1) * width], base[r * width : (r + 1) * width]
        sums = total[r * width : (r + 1) * width]
        for k in range(width):
            delta = load(line[k]) - load(before[k])
            sums[k] += delta if low <= abs(delta) <= high else np.float32(0.0)


@fast
def add_share(base: Any, total: Any, share: Any, out: Any) -> None:
    """Write base + total · share."""
    for k in range(out.size):
        out[k] = store(load(base[k]) + total[k] * share, out[k])
