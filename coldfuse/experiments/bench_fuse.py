"""How fast this machine fuses, beside what else could fuse the same files in the same minutes.

Programs run in turns, each as its own process, with as many threads, all inputs in the page cache:

- coldfuse, start-up apart, with all workers and with one; and `coldfuse fuse` as a whole command;
- hand-written bounds, which do one method and nothing else (`bench_fuse_bounds`);
- peers: a plain loop in torch, and mergekit where it is installed;
- reading every input once, which no program can beat.

The first round warms up, watches memory, and compares what the bounds make with what coldfuse makes.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from coldfuse.core.blob import MIN_PART_BYTES
from coldfuse.core.dtypes import Raw
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.engine.recipes import read_recipe
from coldfuse.experiments.bench_fuse_bounds import BOUNDS, IS_RANDOM
from coldfuse.experiments.bench_fuse_figures import FuseFigures
from coldfuse.experiments.bench_fuse_mergekit import MERGES, mergekit_command
from coldfuse.experiments.bench_fuse_models import SHAPES, Job, count_elements, make_job, make_statistics
from coldfuse.experiments.bench_fuse_rounds import COMMAND, OURS, Program, Rounds
from coldfuse.tensors.files import LocalFile

_SMALL = {"square": 2_000_000, "minilm": 300_000, "llama-0.5b": 600_000}
"""Parameters of the models that warm a program up."""

_CACHED_ELEMENTS = 1 << 16
"""What is read at a time through a buffer that stays in the cache."""


@dataclass(frozen=True, kw_only=True)
class FuseOptions:
    """What is to be measured."""

    methods: Sequence[str] = ("mean",)
    shape: str = "square"
    num_parameters: int | None = None
    """None: as many as the shape's original has."""
    num_contributions: int = 8
    dtype: str = "F32"
    num_workers: int | None = None
    """None: one a processor."""
    on_ray: bool = False
    num_runs: int = 5
    with_peers: bool = True
    mergekit: Path | None = None
    """The path of `mergekit-yaml`."""
    folder: Path | None = None
    """Where to put the files; None: the system's temporary folder."""


def bench_fuse(options: FuseOptions) -> Iterator[FuseFigures]:
    """Make models, and measure one method after the other on them."""
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="bench-fuse-") as scratch:
        folder = Path(scratch)
        real = _make(folder / "real", options, options.num_parameters)
        small = _make(folder / "small", options, _SMALL[options.shape])
        for method in options.methods:
            jobs = [replace(job, method=method) for job in (real, small)]
            if not _statistic(method):
                jobs = [replace(job, statistics=()) for job in jobs]
            yield _measure(options, jobs[0], jobs[1], folder)


def programs(options: FuseOptions, job: Job, small: Job, folder: Path) -> list[Program]:
    """Return all that can fuse this, coldfuse first."""
    whole, one, warm = (
        str(each.write(folder / f"{name}.json"))
        for name, each in (("job", job), ("one-worker", replace(job, num_workers=1)), ("small", small))
    )
    found = [
        Program(OURS, _child("coldfuse", whole, warm), is_warmed=True),
        Program(COMMAND, _command(job)),
    ]
    if job.num_workers > 1 and not job.on_ray:
        found.append(Program("coldfuse, 1 worker", _child("coldfuse", one, warm), is_warmed=True))
    for name in BOUNDS.get(job.method, ()) if job.dtype in ("F32", "BF16") else ():
        compared = job.method not in IS_RANDOM
        found.append(Program(name, _child(name, whole, warm), is_warmed=True, is_compared=compared))
    if options.with_peers and job.method in ("mean", "ties"):
        found.append(Program("torch", _child("torch", whole), is_compared=True, is_peer=True))
    if options.mergekit is not None and job.method in MERGES:
        found.append(Program("mergekit", tuple(mergekit_command(options.mergekit, job, folder)), is_peer=True))
    return found


def _make(folder: Path, options: FuseOptions, num_parameters: int | None) -> Job:
    folder.mkdir()
    shapes, config = SHAPES[options.shape](num_parameters)
    job = Job(
        method="", base="", models=(), statistics=(), out="", dtype=options.dtype, on_ray=options.on_ray,
        num_workers=options.num_workers or os.cpu_count() or 1, num_parameters=count_elements(shapes),
    )  # fmt: skip
    job = make_job(folder, shapes, config, job, num_models=options.num_contributions)
    asks = any(_statistic(method) for method in options.methods)
    return make_statistics(folder, shapes, job) if asks else job


def _measure(options: FuseOptions, job: Job, small: Job, folder: Path) -> FuseFigures:
    todo = programs(options, job, small, folder)
    rounds = Rounds(todo, job)
    rounds.warm_up()
    reads = []
    blocks = MIN_PART_BYTES, _CACHED_ELEMENTS * ITEM_BYTES[job.dtype]
    for _ in range(options.num_runs):
        reads.append([_read_all(job, block) for block in blocks])
        rounds.run()
    rates = [job.input_bytes / statistics.median(each) / 1e9 for each in zip(*reads, strict=True)]
    return FuseFigures(
        method=job.method,
        shape=options.shape,
        num_parameters=job.num_parameters,
        num_contributions=len(job.models),
        dtype=job.dtype,
        num_workers=job.num_workers,
        on_ray=job.on_ray,
        num_runs=options.num_runs,
        input_bytes=job.input_bytes,
        read_gb_s=rates[0],
        cached_read_gb_s=rates[1],
        programs=tuple(rounds.figures(program) for program in todo),
    )


def _statistic(method: str) -> bool:
    return any(step.statistic == "fisher" for step in read_recipe(method).steps)


def _child(program: str, *jobs: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "coldfuse.experiments.bench_fuse_child", program, *jobs)


def _command(job: Job) -> tuple[str, ...]:
    options = ["--out", job.out, "--method", job.method, "--workers", str(job.num_workers)]
    options += [word for path in job.statistics for word in ("--statistics", path)]
    if job.on_ray:
        options.append("--ray")
    return (sys.executable, "-P", "-m", "coldfuse", "fuse", job.base, *job.models, *options)


def _read_all(job: Job, block: int) -> float:
    """Read every file once in blocks of so many bytes, and return the seconds that took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(job.num_workers) as pool:
        list(pool.map(lambda file: _read_file(file, block), job.files))
    return time.perf_counter() - began


def _read_file(path: Path, block: int) -> None:
    buffer: Raw = np.empty(block, np.uint8)
    with LocalFile(path).open() as file:
        size = file.size_bytes
        for start in range(0, size, block):
            file.read_into(buffer.data[: min(block, size - start)], start)
