"""Hand-written programs that do one method each and nothing else: what coldfuse is measured against.

They know that all files hold the same tensors in the same order, and take a model for one vector. They hash nothing,
screen nothing, check nothing, and calculate in single precision; where a formula lets them, they do not read the base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.experiments import bench_fuse_kernels as kernels
from coldfuse.experiments.bench_fuse_files import ElementRange, Vectors, Work, longest, read, rows_of
from coldfuse.experiments.bench_fuse_models import Job
from coldfuse.experiments.bench_fuse_ranks import no_masks, random_masks, shifted, size_thresholds
from coldfuse.fusion.robust.sorting import network

Program = Callable[[Vectors], None]

_DENSITY, _DROP = 0.2, 0.5
_KEPT, _OUTLIERS = 0.15, 0.006
_FLOOR = 1e-6
_TRIM = 0.2
"""The defaults of the methods of these names."""

_RUNS = 32
"""Of rows, that one thread takes at a time."""


def run_bound(name: str, job: Job) -> None:
    """Fuse as the bound of this name does: `numpy`, `numba`."""
    with Vectors(job) as vectors:
        BOUNDS[job.method][name](vectors)


def numpy_mean(vectors: Vectors) -> None:
    """The mean of the models, which is the base moved by the mean delta: Σ θ_i / C, with numpy alone."""
    block, share = 1 << 16, np.float32(1 / len(vectors.models))

    def make() -> Work:
        raw: NDArray[Any] = vectors.buffer(block)
        wide, total = np.zeros(block, np.uint32), np.zeros(block, np.float32)
        raw.fill(0)  # the last block is shorter, and what lies behind it is added, too

        def work(first: int, count: int) -> None:
            total.fill(0)
            for file in vectors.models:
                read(file, raw, (first, count))
                if raw.dtype == np.uint16:
                    np.left_shift(raw, 16, out=wide, dtype=np.uint32)
                np.add(total, wide.view(np.float32) if raw.dtype == np.uint16 else raw, out=total)
            np.multiply(total, share, out=total)
            vectors.write(_rounded(total) if raw.dtype == np.uint16 else total, (first, count))

        return work

    vectors.run(make, block)


def mean(vectors: Vectors) -> None:
    """Σ θ_i / C."""
    _each(vectors, kernels.average)


def median(vectors: Vectors) -> None:
    """The median of the models, which is the base moved by the median delta."""
    count = len(vectors.models)
    _between(vectors, (count - 1) // 2, count // 2 + 1)


def trimmed_mean(vectors: Vectors) -> None:
    """The mean of the models without the extremes."""
    count = len(vectors.models)
    cut = min(int(_TRIM * count), (count - 1) // 2)
    if cut == 1 and count > 2:
        _each(vectors, kernels.without_extremes)
    else:
        _between(vectors, cut, count - cut)


def fisher(vectors: Vectors) -> None:
    """Σ λ_i F_i θ_i / Σ λ_i F_i, λ_i = 1 / ‖F_i‖, in two passes."""

    def squares(combination: ElementRange) -> NDArray[np.float64]:
        row = np.empty(vectors.block_elements, np.float32)
        sums = np.zeros(len(vectors.statistics))
        for elements in vectors.blocks(combination):
            for index, file in enumerate(vectors.statistics):
                read(file, row, elements)
                sums[index] += kernels.square_sum(row, elements[1])
        return sums

    norms = np.sqrt(np.sum(vectors.map(squares), axis=0))
    scale = (1 / norms).astype(np.float32)
    least = (_FLOOR * norms / np.sqrt(vectors.num_elements)).astype(np.float32)

    def make() -> Work:
        rows, out = vectors.rows_buffer(), vectors.buffer()
        known = np.empty(rows.shape, np.float32)

        def work(first: int, count: int) -> None:
            vectors.read_rows(rows, (first, count))
            for row, file in zip(known, vectors.statistics, strict=True):
                read(file, row, (first, count))
            kernels.weigh(rows, known, scale, least, count, out)
            vectors.write(out, (first, count))

        return work

    vectors.run(make)


def dare_mean(vectors: Vectors) -> None:
    """The base + Σ m_i δ_i / C with other random masks than coldfuse's."""
    masks = random_masks(len(vectors.models), _DROP)

    def fuse(rows: Any, base: Any, first: int, count: int, out: Any) -> None:
        kernels.drop_and_average(rows, base, shifted(masks, first), count, out)

    _each_with_base(vectors, fuse)


def ties(vectors: Vectors, masks: NDArray[np.uint32] | None = None) -> None:
    """The thresholds over the whole model, from a sample and one pass; then one pass that elects and merges."""
    masks = no_masks(len(vectors.models)) if masks is None else masks
    thresholds = size_thresholds(vectors, masks, _DENSITY)

    def fuse(rows: Any, base: Any, first: int, count: int, out: Any) -> None:
        kernels.elect(rows, base, shifted(masks, first), thresholds, count, out)

    _each_with_base(vectors, fuse)


def dare_ties(vectors: Vectors) -> None:
    """TIES of deltas of which a part was dropped at random."""
    ties(vectors, random_masks(len(vectors.models), _DROP))


def breadcrumbs_mean(vectors: Vectors) -> None:
    """The base + Σ m_i δ_i / C; masks drop the small and the largest of each row, which numpy's partition finds."""
    runs = rows_of(vectors.header, 1 << 16)
    longest_run, share = longest(runs), np.float32(1 / len(vectors.models))
    mask = np.zeros(2, np.uint32)

    def work(start: int) -> None:
        row, base, out = (vectors.buffer(longest_run) for _ in range(3))
        size, total = np.empty(longest_run, np.float32), np.empty(longest_run, np.float32)
        for first, count, width in runs[start : start + _RUNS]:
            read(vectors.base, base, (first, count))
            total[:count] = 0
            for file in vectors.models:
                read(file, row, (first, count))
                kernels.sizes(row, base, mask, count, size)
                bounds = _row_bounds(size[:count].reshape(-1, width))
                kernels.add_between(row, base, bounds, width, count, total)
            kernels.add_share(base, total, share, out[:count])
            vectors.write(out, (first, count))

    with ThreadPoolExecutor(vectors.num_workers) as pool:
        list(pool.map(work, range(0, len(runs), _RUNS)))


BOUNDS: Mapping[str, Mapping[str, Program]] = {
    "mean": {"numpy": numpy_mean, "numba": mean},
    "ties": {"numba": ties},
    "dare then mean": {"numba": dare_mean},
    "dare then ties": {"numba": dare_ties},
    "median": {"numba": median},
    "trimmed-mean": {"numba": trimmed_mean},
    "fisher": {"numba": fisher},
    "breadcrumbs then mean": {"numba": breadcrumbs_mean},
}
"""By recipe, whose parameters are all defaults."""

IS_RANDOM = ("dare then mean", "dare then ties")
"""Of which two programs with random numbers of their own cannot agree."""


def _each(vectors: Vectors, fuse: Callable[[Any, int, Any], None]) -> None:
    """Fuse all blocks of what needs no base."""

    def make() -> Work:
        rows, out = vectors.rows_buffer(), vectors.buffer()

        def work(first: int, count: int) -> None:
            vectors.read_rows(rows, (first, count))
            fuse(rows, count, out)
            vectors.write(out, (first, count))

        return work

    vectors.run(make)


def _each_with_base(vectors: Vectors, fuse: Callable[[Any, Any, int, int, Any], None]) -> None:
    def make() -> Work:
        rows, base, out = vectors.rows_buffer(), vectors.buffer(), vectors.buffer()

        def work(first: int, count: int) -> None:
            read(vectors.base, base, (first, count))
            vectors.read_rows(rows, (first, count))
            fuse(rows, base, first, count, out)
            vectors.write(out, (first, count))

        return work

    vectors.run(make)


def _between(vectors: Vectors, first: int, end: int) -> None:
    """Average the sorted values from `first` to before `end`; comparisons that cannot change them are left out."""
    pairs, needed = [], set(range(first, end))
    for low, high in reversed(network(len(vectors.models)).tolist()):
        if low in needed or high in needed:
            pairs.append((low, high))
            needed |= {low, high}
    kept = np.array(pairs[::-1], np.int64).reshape(-1, 2)
    _each(vectors, lambda rows, count, out: kernels.middle(rows, count, kept, first, end, out))


def _row_bounds(size: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smallest and the largest size to keep of each row: numpy finds one rank at a time faster than two."""
    count = size.shape[1]
    kept, outliers = max(1, int(_KEPT * count)), int(_OUTLIERS * count)
    first = max(0, count - kept - outliers)
    size.partition(first, axis=1)
    above = np.ascontiguousarray(size[:, first:])
    last = max(0, count - outliers - 1 - first)
    above.partition(last, axis=1)
    return np.stack([size[:, first], above[:, last]], axis=1)


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to bfloat16, to nearest and ties to even."""
    bits = values.view(np.uint32)
    return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16)
