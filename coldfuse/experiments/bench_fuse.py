"""How fast this machine fuses, beside how fast it can read the same bytes in the same run.

The bound reads every input once into memory, part by part, with as many threads. A stricter one drops the bytes while
they are still in the processor's cache, in the blocks that the fusion works in: faster than any program that looks at
what it read. The fusion runs as its own process, as `coldfuse fuse` does, start-up apart; inputs lie in the page cache
for both. Peak
memory is the largest sum of resident memory over the whole process tree, and grows neither with the number of
contributions nor with the model.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil

from coldfuse.aggregator.execution import Executor, ThreadExecutor, ray_executor
from coldfuse.aggregator.job import SUM_ELEMENTS
from coldfuse.aggregator.local import FolderFusion, fuse_folders
from coldfuse.aggregator.recipes import read_recipe
from coldfuse.codec.header import format_header
from coldfuse.codec.local_file import LocalFile
from coldfuse.config import prepare_ray
from coldfuse.core.blob import MIN_PART_BYTES
from coldfuse.core.dtypes import Raw, from_floats
from coldfuse.core.schema import ITEM_BYTES, TensorSpec
from coldfuse.fusion.kernels import decode, encode

_ROWS, _COLUMNS = 2048, 2048
"""Shape of the tensors of the made-up models."""


@dataclass(frozen=True, kw_only=True)
class FuseFigures:
    """What was measured; rates are medians over the runs, in 10⁹ bytes of input a second."""

    method: str
    num_parameters: int
    num_contributions: int
    dtype: str
    num_workers: int
    on_ray: bool
    num_runs: int
    input_bytes: int
    """Base and contributions."""
    read_gb_s: float
    """The bound: reading all inputs into memory, in parts of 16 MiB."""
    cached_read_gb_s: float
    """Reading all inputs through a buffer that stays in the cache."""
    fuse_gb_s: float
    ratio: float
    """Median of fuse / read, each pair measured one after the other."""
    ratio_min: float
    ratio_max: float
    fuse_s: float
    start_rss_mib: float
    """The process tree's memory before it began: the interpreter and its libraries (and Ray's processes)."""
    peak_rss_mib: float


def bench_fuse(  # noqa: PLR0913  # a measurement is what its parameters are
    *,
    num_parameters: int,
    num_contributions: int,
    dtype: str,
    method: str = "mean",
    num_workers: int | None = None,
    on_ray: bool = False,
    num_runs: int = 5,
    folder: Path | None = None,
) -> FuseFigures:
    """Make models of this size in `folder`, and measure fusing and reading them in turns."""
    num_workers = num_workers or os.cpu_count() or 1
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-fuse-") as scratch:
        models = [
            _make_model(Path(scratch) / f"model-{index}", num_parameters, dtype, seed=index)
            for index in range(num_contributions + 1)
        ]
        files = [model / "model.safetensors" for model in models]
        job = _Job(models[0], tuple(models[1:]), Path(scratch) / "fused", method, num_workers, on_ray)
        pairs, starts, peaks, cached = [], [], [], []
        for run in range(num_runs + 1):  # the first pair warms up
            read_s = _read_all(files, num_workers, MIN_PART_BYTES)
            cached.append(_read_all(files, num_workers, SUM_ELEMENTS * ITEM_BYTES[dtype]))
            fuse_s, start, peak = _measure(job, dtype)
            if run > 0:
                pairs.append((read_s, fuse_s))
                starts.append(start)
                peaks.append(peak)
        input_bytes = sum(file.stat().st_size for file in files)
    ratios = [read_s / fuse_s for read_s, fuse_s in pairs]
    return FuseFigures(
        method=method,
        num_parameters=num_parameters,
        num_contributions=num_contributions,
        dtype=dtype,
        num_workers=num_workers,
        on_ray=on_ray,
        num_runs=num_runs,
        input_bytes=input_bytes,
        read_gb_s=input_bytes / statistics.median(read_s for read_s, _ in pairs) / 1e9,
        cached_read_gb_s=input_bytes / statistics.median(cached) / 1e9,
        fuse_gb_s=input_bytes / statistics.median(fuse_s for _, fuse_s in pairs) / 1e9,
        ratio=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        fuse_s=statistics.median(fuse_s for _, fuse_s in pairs),
        start_rss_mib=statistics.median(starts),
        peak_rss_mib=max(peaks),
    )


@dataclass(frozen=True)
class _Job:
    base: Path
    models: tuple[Path, ...]
    out: Path
    method: str
    num_workers: int
    on_ray: bool


def _make_model(folder: Path, num_parameters: int, dtype: str, *, seed: int) -> Path:
    """Write a model of random normal values. One block of them serves all tensors: only its size matters here."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bench"}))
    block = from_floats(np.random.default_rng(seed).standard_normal(_ROWS * _COLUMNS), dtype)
    specs = list(_specs(num_parameters, dtype))
    with open(folder / "model.safetensors", "wb") as file:
        file.write(format_header(specs, {"format": "pt"}))
        for _, spec in specs:
            file.write(block[: spec.size_bytes].data)
    return folder


def _specs(num_parameters: int, dtype: str) -> Iterator[tuple[str, TensorSpec]]:
    whole, rest = divmod(num_parameters, _ROWS * _COLUMNS)
    for index in range(whole):
        yield f"layers.{index:05d}.weight", TensorSpec(dtype=dtype, shape=(_ROWS, _COLUMNS))
    if rest:
        yield "rest", TensorSpec(dtype=dtype, shape=(rest,))


def _read_all(files: Sequence[Path], num_threads: int, block: int) -> float:
    """Read every file once in blocks of so many bytes, and return the seconds that took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(lambda file: _read_file(file, block), files))
    return time.perf_counter() - began


def _read_file(path: Path, block: int) -> None:
    buffer: Raw = np.empty(block, np.uint8)
    with LocalFile(path) as file:
        size = file.size_bytes
        for start in range(0, size, block):
            file.read_into(buffer.data[: min(block, size - start)], start)


def _measure(job: _Job, dtype: str) -> tuple[float, float, float]:
    """Run the fusion in a process; return its seconds, and the tree's memory before and at most, in MiB."""
    shutil.rmtree(job.out, ignore_errors=True)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_fuse, args=(theirs, job, dtype))
    process.start()
    theirs.close()
    if ours.recv() != "ready":
        raise RuntimeError("the benchmark's process said something else")
    tree = psutil.Process(process.pid)
    start = peak = _resident_mib(tree)
    ours.send("go")
    while not ours.poll(0.01):
        peak = max(peak, _resident_mib(tree))
    seconds = ours.recv()
    ours.send("end")
    process.join()
    return float(seconds), start, peak


def _fuse(pipe: Connection[object, object], job: _Job, dtype: str) -> None:
    def run(executor: Executor) -> None:
        one = np.zeros(1)
        decode(encode(one, dtype), dtype, one)  # numba loads its compiled functions: a part of starting up
        pipe.send("ready")
        pipe.recv()
        began = time.perf_counter()
        request = FolderFusion(base=job.base, models=job.models, out=job.out, recipe=read_recipe(job.method))
        fuse_folders(request, executor)
        pipe.send(time.perf_counter() - began)
        pipe.recv()

    if job.on_ray:
        prepare_ray()
        with ray_executor(None, num_cpus=job.num_workers) as executor:
            run(executor)
    else:
        run(ThreadExecutor(job.num_workers))


def _resident_mib(process: psutil.Process) -> float:
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20
