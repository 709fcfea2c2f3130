"""For the bounds: the exact size of the k-th largest delta of each model, and masks that drop some at random."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from coldfuse.errors import ColdfuseError
from coldfuse.experiments import bench_fuse_kernels as kernels
from coldfuse.experiments.bench_fuse_files import ElementRange, Vectors, cut, read

Masks = NDArray[np.uint32]
"""A row for each model: a key, and what a random number must reach for an entry to stay. Shape (C, 2)."""

Window = tuple[np.float32, np.float32]
"""The smallest and the largest size that are counted."""

_SAMPLES, _SAMPLE_RUN = 1 << 20, 1 << 12
_MARGIN = 6.0
"""Half the width of the first window, in standard deviations of a rank in the sample."""

_MOST_BINS = 1 << 22


def no_masks(count: int) -> Masks:
    """Return masks that drop nothing."""
    return np.zeros((count, 2), np.uint32)


def random_masks(count: int, drop: float) -> Masks:
    """Return masks that drop this share."""
    keys = np.random.default_rng(7).integers(0, 1 << 32, count)
    return np.array([(key, int(drop * 2**32)) for key in keys], np.uint32)


def shifted(masks: Masks, first: int) -> Masks:
    """Return masks for a block that begins at this element."""
    moved = masks.copy()
    moved[:, 0] += np.uint32(first & 0xFFFFFFFF)
    return moved


def size_thresholds(vectors: Vectors, masks: Masks, density: float) -> NDArray[np.float32]:
    """Return the size of each model's smallest delta that is kept: a sample says where to count, one pass counts."""
    rank = vectors.num_elements - int(vectors.num_elements * density) - 1
    with ThreadPoolExecutor(vectors.num_workers) as pool:
        samples = list(pool.map(lambda index: _sample(vectors, index, masks), range(len(vectors.models))))
    margin = _MARGIN
    while True:
        windows = [_window(sample, rank, vectors.num_elements, margin) for sample in samples]
        below, found = _count(vectors, masks, windows)
        if all(b <= rank < b + f.sum() for b, f in zip(below, found, strict=True)):
            break
        margin *= 4
    return np.array([_ranked(*each, rank) for each in zip(windows, below, found, strict=True)], np.float32)


def _sample(vectors: Vectors, index: int, masks: Masks) -> NDArray[np.float32]:
    """Return some sizes, sorted: one of sixteen, in runs that lie evenly, but not more than it takes."""
    num_runs = max(min(_SAMPLES, vectors.num_elements // 16) // _SAMPLE_RUN, 16)
    stride = max(-(-vectors.num_elements // num_runs), _SAMPLE_RUN)
    row, base = vectors.buffer(_SAMPLE_RUN), vectors.buffer(_SAMPLE_RUN)
    found = []
    for first, most in cut((0, vectors.num_elements), stride):
        elements = first, min(_SAMPLE_RUN, most)
        read(vectors.base, base, elements)
        read(vectors.models[index], row, elements)
        size = np.empty(elements[1], np.float32)
        kernels.sizes(row, base, shifted(masks, first)[index], elements[1], size)
        found.append(size)
    return np.sort(np.concatenate(found))


def _window(sample: NDArray[np.float32], rank: int, num_elements: int, margin: float) -> Window:
    share = rank / num_elements
    middle = share * len(sample)
    width = margin * np.sqrt(len(sample) * share * (1 - share)) + 2
    low, high = max(int(middle - width), 0), min(int(middle + width) + 1, len(sample) - 1)
    return sample[low], sample[high]


def _count(vectors: Vectors, masks: Masks, windows: list[Window]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the sizes below each window, and each size in it."""
    bins = max(int(high.view(np.uint32)) - int(low.view(np.uint32)) + 1 for low, high in windows)
    if bins > _MOST_BINS:
        raise ColdfuseError(f"the bound counts {_MOST_BINS} sizes at most, these models need {bins}")
    edges = np.array(windows, np.float32)

    below, found = np.zeros(len(windows), np.int64), np.zeros((len(windows), bins), np.int64)
    lock = Lock()

    def count(combination: ElementRange) -> None:
        rows, base = vectors.rows_buffer(), vectors.buffer()
        some_below, some_found = np.zeros_like(below), np.zeros(found.shape, np.int32)
        for first, size in vectors.blocks(combination):
            read(vectors.base, base, (first, size))
            vectors.read_rows(rows, (first, size))
            kernels.count_sizes(rows, base, shifted(masks, first), edges, size, some_below, some_found)
        with lock:
            np.add(below, some_below, out=below)
            np.add(found, some_found, out=found)

    vectors.map(count)
    return below, found


def _ranked(window: Window, below: int, found: NDArray[np.int64], rank: int) -> np.float32:
    place = int(np.searchsorted(np.cumsum(found), rank - below + 1))
    return np.uint32(int(window[0].view(np.uint32)) + place).view(np.float32)
