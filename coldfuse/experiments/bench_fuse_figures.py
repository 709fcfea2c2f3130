"""What the benchmark of fusing found, as values and as a table; and whether two programs made the same."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import to_floats
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.experiments.bench_fuse_models import WEIGHTS
from coldfuse.tensors.files import LocalFile, OpenFile, read_file_header

_BLOCK = 1 << 20
_ROUNDING = {"F32": 2.0**-20, "F16": 2.0**-9, "BF16": 2.0**-6}
"""Two programs may round an element differently: by the last bits, or by two steps of a short type."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median over the runs, and between what they lay."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """Summarise, if all values are known."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return cls(median=statistics.median(known), min=min(known), max=max(known))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.min:.2f}–{self.max:.2f})"


@dataclass(frozen=True, kw_only=True)
class ProgramFigures:
    """One program on one method."""

    program: str
    seconds: Spread | None = None
    """Start-up apart; None: it cannot tell."""
    whole_s: Spread | None = None
    """The whole command; None: it ran twice in its process, to be warm."""
    ratio: Spread | None = None
    """Its seconds in coldfuse's of the same round: below 1 it is faster. Of one worker it is two workers' speed-up."""
    whole_ratio: Spread | None = None
    """Of the whole command, to `coldfuse fuse`."""
    gb_s: float | None = None
    """Input, 10⁹ bytes a second, start-up apart where that is known."""
    start_mib: float | None = None
    """Anonymous memory before it began."""
    peak_mib: float | None = None
    """Most anonymous memory of its process tree, in a run that was not timed."""
    differing: float | None = None
    """Share of elements that differ from coldfuse's by more than rounding; None: nobody compared."""
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class FuseFigures:
    """One method, and all programs that were measured in turns."""

    method: str
    shape: str
    num_parameters: int
    num_contributions: int
    dtype: str
    num_workers: int
    on_ray: bool
    num_runs: int
    input_bytes: int
    """Base, contributions and statistics."""
    read_gb_s: float
    """Reading all of it into memory, in parts of 16 MiB."""
    cached_read_gb_s: float
    """Reading all of it through a buffer that stays in the cache."""
    programs: tuple[ProgramFigures, ...]


def table(figures: FuseFigures) -> Iterator[str]:
    """Return the lines of a table."""
    yield (
        f"{figures.method}: {figures.shape}, {figures.num_parameters / 1e6:.1f}M {figures.dtype} × "
        f"{figures.num_contributions}, {figures.input_bytes / 1e9:.2f} GB, {figures.num_workers} workers"
        f"{' on Ray' if figures.on_ray else ''}, {figures.num_runs} runs; "
        f"reading {figures.read_gb_s:.1f} GB/s, in the cache {figures.cached_read_gb_s:.1f} GB/s"
    )
    yield _line("program", "seconds", "of coldfuse's", "whole command", "of coldfuse fuse", "GB/s", "MiB", "differs")
    for row in figures.programs:
        spreads = [_text(value) for value in (row.seconds, row.ratio, row.whole_s, row.whole_ratio)]
        memory = "" if row.peak_mib is None else f"{_text(row.start_mib, '.0f')} → {row.peak_mib:.0f}"
        yield _line(row.program, *spreads, _text(row.gb_s, ".2f"), memory, _text(row.differing, ".1e"))
        if row.failure:
            yield f"    {row.failure}"


def share_differing(one: Path, other: Path) -> float:
    """Return the share of elements in which two fused models differ by more than rounding."""
    paths = one / WEIGHTS, other / WEIGHTS
    header = read_file_header(paths[1])
    if read_file_header(paths[0]).schema != header.schema:
        return 1.0
    dtype = header.tensors[0].spec.dtype
    item, differing = ITEM_BYTES[dtype], 0
    with LocalFile(paths[0]).open() as ours, LocalFile(paths[1]).open() as theirs:
        for start in range(header.size_bytes, header.file_bytes, _BLOCK * item):
            size = min(_BLOCK * item, header.file_bytes - start)
            a, b = (_floats(file, start, size, dtype) for file in (ours, theirs))
            scale = float(np.sqrt(np.mean(b * b)))
            differing += int(np.sum(~(np.abs(a - b) <= _ROUNDING[dtype] * np.abs(b) + 1e-5 * scale)))
    return differing / ((header.file_bytes - header.size_bytes) // item)


def _floats(file: OpenFile, start: int, size: int, dtype: str) -> NDArray[np.float64]:
    raw = np.empty(size, np.uint8)
    file.read_into(raw.data, start)
    return to_floats(raw, dtype).astype(np.float64)


def _text(value: object, form: str = "") -> str:
    return "" if value is None else format(value, form)


def _line(program: str, *cells: str) -> str:
    widths = 24, 24, 24, 24, 8, 13, 9
    return f"  {program:<20}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
