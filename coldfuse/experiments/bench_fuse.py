"""How fast this machine fuses, beside reading the same files and beside starting up, in turns.

Whole commands `coldfuse fuse` are measured, each a process of its own, with all inputs in the page cache; the first
round is not counted. The same command on models of next to nothing says how long starting up takes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import ColdfuseError
from coldfuse.experiments.bench_models import SHAPES, ModelSet, Shape, add_fisher, make_models

_SMALL_PARAMETERS = 30_000
_READ_BYTES = 1 << 20
_INTERVAL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class FuseOptions:
    """What is to be measured."""

    methods: Sequence[str] = ("mean",)
    """Recipes, one after the other."""
    shape: str = "square"
    """Name of a shape in `SHAPES`."""
    num_parameters: int | None = None
    """Size of the models; None: as many as the shape's original has."""
    num_contributions: int = 8
    dtype: str = "F32"
    num_workers: int | None = None
    """Threads or Ray workers; None: one a processor."""
    on_ray: bool = False
    device: str = "cpu"
    num_runs: int = 5
    """Counted rounds; one more warms up."""
    folder: Path | None = None
    """Folder for the files, which are removed; None: the system's temporary folder."""
    models: Path | None = None
    """Folder that keeps the models for the next time; None: they are removed."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of a program took."""

    wall_s: float
    """Time from its start to its end."""
    cpu_s: float
    """Processor time of it and of the processes that it waited for."""
    peak_mib: float
    """Largest resident memory of its own process."""
    last_line: str
    """Last line of its standard output."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A command to measure."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    """All of its variables; None: those of this process."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median, and the values between which all lay."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise values, of which there is at least one."""
        return cls(median=statistics.median(values), min=min(values), max=max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.min:.2f}–{self.max:.2f})"


@dataclass(frozen=True, kw_only=True)
class FuseFigures:
    """What was measured for one method."""

    method: str
    shape: str
    num_parameters: int
    num_contributions: int
    dtype: str
    num_workers: int
    on_ray: bool
    device: str
    num_runs: int
    input_bytes: int
    """Size of base, contributions and statistics."""
    whole_s: Spread
    """The whole command."""
    start_s: Spread
    """The same command on models of next to nothing."""
    fuse_s: float
    """Median of what a command took beyond starting up."""
    cpu_s: Spread
    """Processor time of the whole command."""
    peak_mib: Spread
    """Largest resident memory of the command's own process."""
    read_s: Spread
    """Reading the same files through buffers of 1 MiB, on as many threads."""
    gb_s: float | None
    """Input, 10⁹ bytes a second beyond starting up; None: that took no time."""
    read_gb_s: float


def bench_fuse(options: FuseOptions) -> Iterator[FuseFigures]:
    """Make models, and measure one method after the other on them."""
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="bench-fuse-") as scratch:
        for method in options.methods:
            yield _measure(options, method, Path(scratch))


def _measure(options: FuseOptions, method: str, scratch: Path) -> FuseFigures:
    shapes = [SHAPES[options.shape](count) for count in (options.num_parameters, _SMALL_PARAMETERS)]
    real, small = (_models(options.models or scratch, shape, options, method) for shape in shapes)
    num_workers = options.num_workers or os.cpu_count() or 1
    reads: list[float] = []
    wholes: list[Run] = []
    starts: list[Run] = []
    for _ in range(options.num_runs + 1):
        reads.append(_read_all(real.files, num_workers))
        for found, models in ((wholes, real), (starts, small)):
            out = scratch / "fused"
            found.append(run_program(Program(name="coldfuse fuse", command=_command(options, method, models, out))))
            shutil.rmtree(out)
    pairs = list(zip(wholes[1:], starts[1:], strict=True))  # the first round warmed up
    fuse_s = statistics.median(max(whole.wall_s - start.wall_s, 0.0) for whole, start in pairs)
    read_s = Spread.of(reads[1:])
    return FuseFigures(
        method=method,
        shape=options.shape,
        num_parameters=shapes[0].num_parameters,
        num_contributions=options.num_contributions,
        dtype=options.dtype,
        num_workers=num_workers,
        on_ray=options.on_ray,
        device=options.device,
        num_runs=options.num_runs,
        input_bytes=real.input_bytes,
        whole_s=Spread.of([run.wall_s for run, _ in pairs]),
        start_s=Spread.of([run.wall_s for _, run in pairs]),
        fuse_s=fuse_s,
        cpu_s=Spread.of([run.cpu_s for run, _ in pairs]),
        peak_mib=Spread.of([run.peak_mib for run, _ in pairs]),
        read_s=read_s,
        gb_s=real.input_bytes / fuse_s / 1e9 if fuse_s else None,
        read_gb_s=real.input_bytes / read_s.median / 1e9,
    )


def _models(folder: Path, shape: Shape, options: FuseOptions, method: str) -> ModelSet:
    name = f"{options.shape}-{shape.num_parameters}-{options.dtype}"
    made = make_models(folder / name, shape, dtype=options.dtype, num_models=options.num_contributions)
    asks = any(step.statistic == "fisher" for step in read_recipe(method).steps)
    return add_fisher(made, shape) if asks else made


def _command(options: FuseOptions, method: str, models: ModelSet, out: Path) -> list[str]:
    words = ["--out", out, "--method", method, "--device", options.device]
    words += [word for path in models.statistics for word in ("--statistics", path)]
    words += ["--workers", options.num_workers] if options.num_workers else []
    words += ["--ray"] if options.on_ray else []
    return [sys.executable, "-P", "-m", "coldfuse", "fuse", *map(str, (models.base, *models.models, *words))]


def _read_all(files: Sequence[Path], num_threads: int) -> float:
    """Read every file once, and return the seconds that took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(_read, files))
    return time.perf_counter() - began


def _read(path: Path) -> None:
    buffer = bytearray(_READ_BYTES)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def run_program(program: Program) -> Run:
    """Run a program to its end. Raises `ColdfuseError` with its last words if it fails."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            program.command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=program.environment
        )
        with _Watch(process.pid) as watch:
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)  # it need not wait for what has ended
        if process.returncode != 0:
            errors.seek(0)
            words = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
            raise ColdfuseError(f"{program.name} ended with status {process.returncode}: {' / '.join(words[-3:])}")
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    return Run(
        wall_s=wall_s, cpu_s=usage.ru_utime + usage.ru_stime, peak_mib=watch.peak_mib, last_line=(lines or [""])[-1]
    )


class _Watch:
    """Asks the kernel for a process's peak memory as long as it runs: `ru_maxrss` would count what started it, too."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/status")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mib = 0.0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                lines = self._path.read_text(encoding="ascii", errors="replace").splitlines()
            except OSError:  # it ended, or this system has no such file
                return
            found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
            self.peak_mib = max([self.peak_mib, *found])
            self._stop.wait(_INTERVAL_S)
