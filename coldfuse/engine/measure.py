"""The tasks of the passes before the last: what a recipe's steps must measure over all elements.

Sums are made shard by shard in their order, whoever worked on them. Ranks come from windows of counters that close in
on them (`coldfuse.fusion.selection`); a tensor that is small is simply sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from coldfuse.engine.job import Fusion
from coldfuse.engine.plan import PieceTask, Shard
from coldfuse.engine.ranges import ElementRange, element_ranges, has_rows
from coldfuse.engine.reading import BlockReader
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Measure, Ranked, Sums
from coldfuse.fusion.rows import count_rows
from coldfuse.fusion.selection import Counts, Packed, Windows, count, nothing, ranks_of_rows

_SORTED_VALUES = 1 << 20
"""Maximum number of values of a tensor, of all contributions together, that are sorted: 4 MiB."""

SAMPLE_RUN = 1 << 11
"""Length of the runs in which a sample's values lie side by side: shorter reads cost as much."""


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What every task of a measuring pass needs to know."""

    fusion: Fusion
    step: int
    """Index of the recipe's step that measures."""
    measure: int
    """Index of the step's measure."""
    windows: Mapping[str, Windows] = field(default_factory=dict)
    """Where to count, by tensor, or "" for the model."""
    stride: int = 0
    """Distance of a sample's runs."""

    @property
    def what(self) -> Measure:
        """The measure."""
        return self.fusion.recipe.steps[self.step].measures()[self.measure]

    def known(self, group: str) -> Mapping[str, Float64]:
        """Return the step's own parameters, and what its earlier measures found, in a tensor or in the model ("")."""
        own = {**self.fusion.own.get((self.step, ""), {}), **self.fusion.own.get((self.step, group), {})}
        return {**own, **self.fusion.measured.get((self.step, group), {})}


@dataclass(frozen=True)
class Counted:
    """What one shard knows of the ranks."""

    counts: Mapping[str, Packed]
    """Counters of the pass's windows."""
    ranked: Mapping[str, Float64]
    """Final values of tensors that were sorted."""


def sum_shard(measuring: Measuring, shard: Shard) -> dict[str, Float64]:
    """Sum a measure over one shard."""
    sums: dict[str, Float64] = {}
    with BlockReader(measuring.fusion) as reader:
        for piece in measured_pieces(shard):
            group = group_of(measuring.what, piece)
            for block in _blocks(reader, measuring, piece):
                part = cast(Sums, measuring.what).of(block)
                sums[group] = sums[group] + part if group in sums else part
        return sums


def count_shard(measuring: Measuring, shard: Shard) -> Counted:
    """Count one shard's values in the windows, or sort them."""
    counts: dict[str, Packed] = {}
    ranked: dict[str, Float64] = {}
    measure = measuring.what
    with BlockReader(measuring.fusion) as reader:
        for group, pieces in groupby(measured_pieces(shard), key=lambda piece: group_of(measure, piece)):
            if group in measuring.windows:
                counts[group] = _count(reader, measuring, group, pieces)
            elif group:
                for piece in pieces:
                    if is_sorted(measuring.fusion, piece):
                        ranked[group] = _sort(reader, measuring, piece)
    return Counted(counts, ranked)


def sample_shard(measuring: Measuring, shard: Shard) -> NDArray[np.float32]:
    """Return some of one shard's values, in short runs; shape (R, M)."""
    measure = measuring.what
    found: list[NDArray[np.float32]] = []
    with BlockReader(measuring.fusion) as reader:
        for piece in measured_pieces(shard):
            blocks = (reader.block(piece, e, step=measuring.step) for e in _sampled(piece, measuring.stride))
            found += [measure.of(block).astype(np.float32) for block in blocks]
    return np.hstack(found) if found else np.empty((0, 0), np.float32)


def is_sorted(fusion: Fusion, piece: PieceTask) -> bool:
    """Tell whether a tensor lies whole in its piece, and is small."""
    is_whole = piece.num_elements == piece.tensor_elements
    return is_whole and piece.num_elements * fusion.num_contributions <= _SORTED_VALUES


def measured_pieces(shard: Shard) -> list[PieceTask]:
    """Return the pieces whose elements are measured."""
    return [piece for piece in shard.pieces if piece.is_fused]


def group_of(measure: Measure, piece: PieceTask) -> str:
    """Return the tensor whose elements are measured together, or "" for the whole model."""
    return "" if measure.per == "model" else piece.tensor


def _count(reader: BlockReader, measuring: Measuring, group: str, pieces: Iterable[PieceTask]) -> Packed:
    windows = measuring.windows[group]
    counts, measure = nothing(windows), cast(Ranked, measuring.what)
    for piece in pieces:
        if measure.of_deltas and has_rows(piece, step=measuring.step) and not measuring.fusion.recipe.whole_rows:
            _count_rows(reader, measuring, piece, counts)
            continue
        for block in _blocks(reader, measuring, piece):
            count(windows, measure.of(block), counts)
    return counts.pack()


def _count_rows(reader: BlockReader, measuring: Measuring, piece: PieceTask, counts: Counts) -> None:
    """Count deltas as they lie in their files: a block of them in float64 would take longer to make than to count."""
    reader.forget()
    windows = measuring.windows[group_of(measuring.what, piece)]
    for elements in element_ranges(measuring.fusion, piece, is_measured=True, length=measuring.fusion.sum_elements):
        rows = reader.rows(piece, elements, step=measuring.step)
        if rows is not None and not count_rows(windows, rows, counts):
            reader.require_finite([piece])


def _sort(reader: BlockReader, measuring: Measuring, piece: PieceTask) -> Float64:
    measure = cast(Ranked, measuring.what)
    blocks = [np.abs(measure.of(block).astype(np.float32)) for block in _blocks(reader, measuring, piece)]
    values_RN: NDArray[np.float32] = np.hstack(blocks)
    values_RN.sort(axis=1)  # several times faster than partitioning by several ranks
    ranks = measure.ranks(values_RN.shape[1], measuring.known(piece.tensor))
    rank_RK = ranks_of_rows(len(values_RN), ranks)
    return np.take_along_axis(values_RN, rank_RK, axis=1).astype(np.float64).ravel()


def _blocks(reader: BlockReader, measuring: Measuring, piece: PieceTask) -> Iterator[Block]:
    reader.forget()
    measure = measuring.what
    with_deltas = not isinstance(measure, Sums) or measure.reads_deltas
    for elements in element_ranges(measuring.fusion, piece, is_measured=True):
        yield reader.block(piece, elements, step=measuring.step, with_deltas=with_deltas)


def _sampled(piece: PieceTask, stride: int) -> Iterator[ElementRange]:
    """Choose one run in every stride of a piece, each at another place: models repeat themselves at even distances."""
    rng = np.random.Generator(np.random.Philox(key=crc32(f"{piece.tensor}/{piece.first}".encode())))
    for start in range(0, piece.num_elements, stride):
        first = start + int(rng.integers(max(stride - SAMPLE_RUN, 1)))
        if first < piece.num_elements:
            yield piece.first + first, min(SAMPLE_RUN, piece.num_elements - first)
