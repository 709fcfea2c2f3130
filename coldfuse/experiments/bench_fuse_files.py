"""What the hand-written bounds read and write: one long vector a file, block by block, on threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from coldfuse.experiments.bench_fuse_models import WEIGHTS, Job
from coldfuse.tensors.files import read_file_header
from coldfuse.tensors.header import Header

Vector = NDArray[Any]
ElementRange = tuple[int, int]
"""First element, and number of elements."""

Work = Callable[[int, int], None]
R = TypeVar("R")

_CACHE_BYTES = 1 << 19
_SPAN = 1 << 22


class Vectors:
    """The open files of a job. Use as a context manager."""

    def __init__(self, job: Job) -> None:
        """Open everything, and begin the output."""
        self.dtype: np.dtype[Any] = np.dtype({"F32": np.float32, "BF16": np.uint16}[job.dtype])
        self.num_workers = job.num_workers
        self._stack = ExitStack()
        self.header = read_file_header(Path(job.base) / WEIGHTS)
        self.num_elements = sum(spec.num_elements for spec in self.header.schema.values())
        self.base = self._open(Path(job.base) / WEIGHTS, self.header)
        self.models = [self._open(Path(model) / WEIGHTS, self.header) for model in job.models]
        self.statistics = [self._open(Path(path), read_file_header(Path(path))) for path in job.statistics]
        self.out = self._begin(Path(job.out), Path(job.base))

    def __enter__(self) -> Vectors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def block_elements(self) -> int:
        """Elements of a block, of which all contributions' fit into the cache."""
        wanted = _CACHE_BYTES // (self.dtype.itemsize * len(self.models))
        return min(max(1 << (wanted.bit_length() - 1), 1 << 12), 1 << 16)

    def rows_buffer(self, count: int | None = None) -> Vector:
        """Return a buffer for a block of all contributions."""
        return np.empty((len(self.models), count or self.block_elements), self.dtype)

    def buffer(self, count: int | None = None) -> Vector:
        """Return a buffer for a block of one model."""
        return np.empty(count or self.block_elements, self.dtype)

    def read_rows(self, rows: Vector, elements: ElementRange) -> None:
        """Read the same elements of all contributions."""
        for row, file in zip(rows, self.models, strict=True):
            read(file, row, elements)

    def write(self, values: Vector, elements: ElementRange) -> None:
        """Write elements of the fused model."""
        first, count = elements
        file, start = self.out
        data = values[:count].view(np.uint8).data
        done = 0
        while done < len(data):
            done += os.pwrite(file, data[done:], start + first * self.dtype.itemsize + done)

    def run(self, make: Callable[[], Work], block: int | None = None) -> None:
        """Work on all blocks; `make` gives each thread its own buffers."""

        def one(combination: ElementRange) -> None:
            work = make()
            for first, count in cut(combination, block or self.block_elements):
                work(first, count)

        self.map(one)

    def map(self, task: Callable[[ElementRange], R]) -> list[R]:
        """Call a task for spans of the whole vector, on threads."""
        length = max(min(_SPAN, -(-self.num_elements // (4 * self.num_workers))), 1)
        length = -(-length // self.block_elements) * self.block_elements
        with ThreadPoolExecutor(self.num_workers) as pool:
            return list(pool.map(task, cut((0, self.num_elements), length)))

    def blocks(self, combination: ElementRange) -> Iterator[ElementRange]:
        """Cut a range into blocks."""
        return cut(combination, self.block_elements)

    def _open(self, path: Path, header: Header) -> tuple[int, int]:
        file = os.open(path, os.O_RDONLY)
        self._stack.callback(os.close, file)
        return file, header.size_bytes

    def _begin(self, folder: Path, base: Path) -> tuple[int, int]:
        folder.mkdir()
        (folder / "config.json").write_bytes((base / "config.json").read_bytes())
        file = os.open(folder / WEIGHTS, os.O_RDWR | os.O_CREAT)
        self._stack.callback(os.close, file)
        os.pwrite(file, os.pread(self.base[0], self.header.size_bytes, 0), 0)
        os.ftruncate(file, self.header.size_bytes + self.num_elements * self.dtype.itemsize)
        return file, self.header.size_bytes


def read(file: tuple[int, int], buffer: Vector, elements: ElementRange) -> None:
    """Read elements of one file to the beginning of a buffer."""
    first, count = elements
    size = buffer.dtype.itemsize
    if os.preadv(file[0], [buffer[:count].data], file[1] + first * size) != count * size:
        raise OSError(f"elements {first} to {first + count} were not read in one piece")


def cut(combination: ElementRange, length: int) -> Iterator[ElementRange]:
    """Cut a range into pieces of this length."""
    first, count = combination
    end = first + count
    return ((start, min(length, end - start)) for start in range(first, end, length))


def rows_of(header: Header, most: int) -> list[tuple[int, int, int]]:
    """Return runs of whole rows of all tensors, about `most` elements long: first element, number, length of a row."""
    found: list[tuple[int, int, int]] = []
    first = 0
    for entry in header.tensors:
        width = entry.spec.shape[-1]
        found += [(*run, width) for run in cut((first, entry.spec.num_elements), max(most // width, 1) * width)]
        first += entry.spec.num_elements
    return found


def longest(element_ranges: Sequence[tuple[int, int, int]]) -> int:
    """Return the number of elements of the longest run."""
    return max(count for _, count, _ in element_ranges)
