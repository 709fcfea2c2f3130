"""How fast a device fuses what lies in its memory already: what is left of a fusion when reading and sending are free.

- `mean` and `ties` on blocks as long as the engine's, beside copying in the device's own memory: the share says how far
  they are from what that memory allows;
- `tsv-m` and `regmean` on the matrices of a model's layers, one after the other, beside the processor's cores, of which
  each works on a matrix of its own. The processor is timed once: it may take minutes.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch

from coldfuse.engine.device_blocks import decode_rows
from coldfuse.engine.device_counts import DeviceCounts
from coldfuse.engine.devices import CPU, one_blas_thread, require_device, to_device, to_numpy
from coldfuse.engine.job import Fusion
from coldfuse.experiments.bench_fuse import FuseOptions
from coldfuse.experiments.bench_fuse_figures import Spread
from coldfuse.experiments.bench_fuse_models import SHAPES
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.block import Block, Float64, Matrix, TensorInfo
from coldfuse.fusion.informed.regmean import RegMean
from coldfuse.fusion.matrix.tsv_m import TSVM
from coldfuse.fusion.method import MatrixCombiner
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.selection import all_keys, guess
from coldfuse.fusion.sparse.ties import Ties

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_MATRIX_METHODS: dict[str, MatrixCombiner] = {"tsv-m": TSVM(), "regmean": RegMean()}
_COPIED_BYTES = 1 << 28
_SAMPLED = 64
_GRAM_RANK = 16


@dataclass(frozen=True, kw_only=True)
class DeviceFigures:
    """One method on blocks, or on matrices of one shape."""

    method: str
    device: str
    size: str
    """Of what is fused at a time."""
    num_contributions: int
    seconds: Spread
    gb_s: float | None = None
    """Inputs as often as the method has to look at them, and its float64 result; 10⁹ bytes a second."""
    share_of_copy: float | None = None
    """Of the bytes a second that a copy reads and writes there."""
    num_matrices: int | None = None
    """That a model has of this shape."""
    cpu_s: float | None = None
    """The processor's time for one, when all its cores have one each."""
    num_cpus: int | None = None


def bench_device(device: str, options: FuseOptions) -> Iterator[DeviceFigures]:
    """Measure one after the other. Raises `UserInputError` if there is no such device."""
    require_device(device)
    yield from _element_wise(device, options)
    shapes, _ = SHAPES[options.shape](options.num_parameters)
    layers = Counter(shape for name, shape in shapes.items() if len(shape) == 2 and "embed" not in name)
    for shape, count in sorted(layers.items()):
        yield from (_matrices(device, options, method, shape, count) for method in _MATRIX_METHODS)


def _element_wise(device: str, options: FuseOptions) -> Iterator[DeviceFigures]:
    names = tuple(map(str, range(options.num_contributions)))
    fusion = Fusion(store_url=None, recipe=Recipe(), weights=(1.0,) * len(names), names=names)
    count, dtype = fusion.device_elements, _DTYPES[options.dtype]
    base, *rows = (torch.randn(count, device=device).to(dtype) for _ in (0, *names))

    def block(measured: dict[str, Float64]) -> Block:
        values, deltas = decode_rows(base, rows, [True] * len(rows))
        info = _info((count,), len(names), measured)
        return Block(info=info, first=0, base_N=cast(Float64, values), deltas_CN=cast(Float64, deltas))

    ties, deltas = Ties(), to_numpy(block({}).deltas_CN)
    rank = count - int(ties.density * count) - 1
    windows = guess(all_keys(len(names), (rank,), count), deltas[:, ::_SAMPLED].astype(np.float32), count)
    thresholds = {"thresholds": np.partition(np.abs(deltas), rank, axis=1)[:, rank : rank + 1]}

    counts, copied = DeviceCounts(windows, device), _copied_bytes_s(device, options.num_runs)

    def count_and_merge() -> None:
        counts.add(block({}).deltas_CN)
        ties.fuse(block(thresholds))

    for method, looks, work in (("mean", 1, lambda: Mean().fuse(block({}))), ("ties", 2, count_and_merge)):
        seconds = _timed(device, options.num_runs, work)
        num_bytes = looks * (len(names) + 1) * count * base.element_size() + 8 * count
        yield DeviceFigures(
            method=method, device=device, size=f"{count} elements of {options.dtype}",
            num_contributions=len(names), seconds=seconds, gb_s=num_bytes / seconds.median / 1e9,
            share_of_copy=num_bytes / seconds.median / copied,
        )  # fmt: skip


def _copied_bytes_s(device: str, num_runs: int) -> float:
    """Return how many bytes a second a copy reads and writes."""
    before = torch.zeros(_COPIED_BYTES, dtype=torch.uint8, device=device)
    after = torch.empty_like(before)
    return 2 * _COPIED_BYTES / _timed(device, num_runs, lambda: after.copy_(before)).median


def _matrices(
    device: str, options: FuseOptions, method: str, shape: tuple[int, ...], num_matrices: int
) -> DeviceFigures:
    combiner, matrix = _MATRIX_METHODS[method], partial(_matrix, shape, options.num_contributions)
    there, here = matrix(device), matrix(CPU)
    seconds = _timed(device, options.num_runs, lambda: combiner.fuse_matrix(there))
    num_cpus = min(options.num_workers or os.cpu_count() or 1, num_matrices)
    began = time.perf_counter()
    with one_blas_thread(), ThreadPoolExecutor(num_cpus) as pool:
        list(pool.map(combiner.fuse_matrix, [here] * num_cpus))
    cpu_s = (time.perf_counter() - began) / num_cpus
    return DeviceFigures(
        method=method, device=device, size=f"{shape[0]} × {shape[1]}", seconds=seconds,
        num_contributions=options.num_contributions, num_matrices=num_matrices, cpu_s=cpu_s, num_cpus=num_cpus,
    )  # fmt: skip


def _matrix(shape: tuple[int, ...], num_contributions: int, device: str) -> Matrix:
    """Return random deltas, and Gram matrices of few inputs beside noise, which lie on the device already."""
    rng = np.random.default_rng(0)
    deltas = [to_device(rng.normal(size=shape), device) for _ in range(num_contributions)]
    inputs = rng.normal(size=(_GRAM_RANK, shape[1]))
    gram = to_device(inputs.T @ inputs + np.eye(shape[1]), device)
    return Matrix(
        info=_info(shape, num_contributions, {}),
        read_delta=lambda index: deltas[index] * 1.0,  # a fresh array
        read_statistic=lambda _index: gram * 1.0,
    )


def _info(shape: tuple[int, ...], count: int, measured: dict[str, Float64]) -> TensorInfo:
    return TensorInfo(
        tensor="bench", shape=shape, weights_C=np.ones(count), present_C=np.ones(count, bool),
        keys_C=np.zeros(count, np.uint64), num_elements=shape[0], measured=measured,
    )  # fmt: skip


def _timed(device: str, num_runs: int, work: Callable[[], object]) -> Spread:
    """Time some work: once to warm up, and then as often as was asked."""
    seconds = []
    for _ in range(num_runs + 1):
        began = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    counted = seconds[1:]
    return Spread(median=statistics.median(counted), min=min(counted), max=max(counted))
