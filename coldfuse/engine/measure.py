"""The passes before the last: what a recipe's steps must measure over all elements, one measure after the other.

Sums are made shard by shard in their order, whoever worked on them. Ranks come from windows of counters that close in
on them (`coldfuse.fusion.selection`); a tensor that is small is simply sorted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from mmap import mmap
from typing import TypeVar, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from coldfuse.engine.device_counts import DeviceCounts
from coldfuse.engine.devices import to_numpy
from coldfuse.engine.execution import Executor
from coldfuse.engine.job import Fusion
from coldfuse.engine.plan import PieceTask, Shard
from coldfuse.engine.ranges import ElementRange, element_ranges
from coldfuse.engine.reading import BlockReader
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Measure, Ranked, Sums
from coldfuse.fusion.selection import Counts, Packed, Windows, all_keys, count, guess, narrow, nothing

_SORTED_VALUES = 1 << 20
"""A tensor with so few values, of all contributions together, is sorted: 4 MiB."""

_SAMPLED_VALUES = 1 << 22
"""Of all rows together: 16 MiB."""

SAMPLE_RUN = 1 << 11
"""A sample's values lie side by side in runs of this length: shorter reads cost as much."""

_FEWEST_VALUES = 1 << 22
"""Fewer than this are counted twice faster than sampled."""

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over all elements: what every task of it needs to know."""

    fusion: Fusion
    step: int
    """Of the recipe."""
    measure: int
    """Of the step."""
    windows: Mapping[str, Windows] = field(default_factory=dict)
    """Where to count, by tensor, or "" for the model."""
    stride: int = 0
    """Distance of a sample's runs."""


def measure_all(executor: Executor, shards: Sequence[Shard], fusion: Fusion) -> Fusion:
    """Make all passes that the recipe's formulas need before they can be applied; return the fusion that knows."""
    if not any(_measured_pieces(shard) for shard in shards):
        return fusion
    for step, method in enumerate(fusion.recipe.steps):
        for index, measure in enumerate(method.measures()):
            this = Pass(fusion=fusion, step=step, measure=index)
            found = (_sum if isinstance(measure, Sums) else _rank)(executor, shards, this)
            measured = dict(fusion.measured)
            for group, result in found.items():
                measured[step, group] = {**measured.get((step, group), {}), measure.name: result}
            fusion = replace(fusion, measured=measured)
    return fusion


def sum_shard(this: Pass, shard: Shard) -> dict[str, Float64]:
    """Sum a measure over one shard."""
    sums: dict[str, Float64] = {}
    measure = _measure_of(this)
    with BlockReader(this.fusion) as reader:
        for piece in _measured_pieces(shard):
            group = _group(measure, piece)
            for block in _blocks(reader, this, piece):
                part = measure.of(block)
                sums[group] = sums[group] + part if group in sums else part
        reader.settle(shard.pieces)
        return {group: to_numpy(total) for group, total in sums.items()}


@dataclass(frozen=True)
class Counted:
    """What one shard knows of the ranks."""

    counts: Mapping[str, Packed]
    """In the pass's windows."""
    ranked: Mapping[str, Float64]
    """Final, for tensors that were sorted."""


def count_shard(this: Pass, shard: Shard) -> Counted:
    """Count one shard's values in the windows, or sort them."""
    counts: dict[str, Packed] = {}
    ranked: dict[str, Float64] = {}
    measure = _measure_of(this)
    with BlockReader(this.fusion) as reader:
        for group, pieces in groupby(_measured_pieces(shard), key=lambda piece: _group(measure, piece)):
            if group in this.windows:
                counts[group] = _count(reader, this, group, pieces)
            elif group:
                for piece in pieces:
                    if is_sorted(this.fusion, piece):
                        ranked[group] = _sort(reader, this, piece)
        reader.settle(shard.pieces)
    return Counted(counts, ranked)


def _count(reader: BlockReader, this: Pass, group: str, pieces: Iterable[PieceTask]) -> Packed:
    """Count the values of some pieces in a group's windows."""
    measure, windows = _measure_of(this), this.windows[group]
    blocks = (block for piece in pieces for block in _blocks(reader, this, piece))
    if _is_on_device(this):
        there = DeviceCounts(windows, this.fusion.device)
        for block in blocks:
            there.add(measure.of(block))
        return there.total().pack()
    counts = nothing(windows)
    for block in blocks:
        count(windows, measure.of(block), counts)
    return counts.pack()


def sample_shard(this: Pass, shard: Shard) -> NDArray[np.float32]:
    """Return some of one shard's values, in short runs; shape (R, M)."""
    measure = _measure_of(this)
    found: list[NDArray[np.float32]] = []
    with BlockReader(this.fusion) as reader:
        for piece in _measured_pieces(shard):
            blocks = (reader.block(piece, elements, step=this.step) for elements in _sampled(piece, this.stride))
            found += [measure.of(block).astype(np.float32) for block in blocks]
    return np.hstack(found) if found else np.empty((0, 0), np.float32)


def _sum(executor: Executor, shards: Sequence[Shard], this: Pass) -> dict[str, Float64]:
    sums: dict[str, Float64] = {}
    for result in in_order(executor.run(sum_shard, this, shards)):
        for group, part in result.items():
            sums[group] = sums[group] + part if group in sums else part
    return sums


def _rank(executor: Executor, shards: Sequence[Shard], this: Pass) -> dict[str, Float64]:
    measure = _measure_of(this)
    rows = _num_rows(shards, this)
    windows = _first_windows(executor, shards, this, rows)
    ranked: dict[str, Float64] = {}
    todo = list(shards)
    while todo:
        narrowed: dict[str, Windows] = {}
        totals: dict[str, Counts] = {}
        missing = Counter(group for shard in todo for group in {_group(measure, p) for p in _measured_pieces(shard)})
        for _, result in executor.run(count_shard, replace(this, windows=windows), todo):
            ranked |= result.ranked
            for group, part in result.counts.items():
                totals.setdefault(group, nothing(windows[group], this.fusion.num_elements)).add(part)
                missing[group] -= 1
                if not missing[group]:  # the counters of a thousand tensors would not fit
                    narrowed[group] = narrow(windows[group], totals.pop(group))
        ranked |= {group: found for group, w in narrowed.items() if (found := w.found) is not None}
        windows = {group: w for group, w in narrowed.items() if group not in ranked}
        todo = [s for s in shards if any(_group(measure, piece) in windows for piece in _measured_pieces(s))]
    return {group: found.reshape(rows, -1) for group, found in ranked.items()}


def _first_windows(executor: Executor, shards: Sequence[Shard], this: Pass, rows: int) -> dict[str, Windows]:
    """Return a window over everything for the model, narrowed by a sample, or for each tensor that is not sorted."""
    measure, fusion = _ranked(this), this.fusion
    if measure.per == "model":
        windows = all_keys(rows, measure.ranks(fusion.num_elements, _known(this, "")), fusion.num_elements)
        stride = sample_stride(fusion, rows)
        if not stride:
            return {"": windows}
        found = in_order(executor.run(sample_shard, replace(this, stride=stride), shards))
        return {"": guess(windows, _joined(rows, found), fusion.num_elements)}
    large = {
        piece.tensor: piece.tensor_elements
        for shard in shards
        for piece in _measured_pieces(shard)
        if not is_sorted(fusion, piece)
    }
    return {name: all_keys(rows, measure.ranks(size, _known(this, name)), size) for name, size in large.items()}


def _joined(rows: int, parts: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put the parts of a sample beside each other as they come: to hold them all twice would take much memory."""
    shape = rows, _SAMPLED_VALUES // rows * 5 // 4  # the last runs may overshoot
    # Memory of its own, which goes back to the system: freed memory of such a size may stay with the process.
    sample_RM = np.frombuffer(mmap(-1, 4 * math.prod(shape)), np.float32).reshape(shape)
    filled = 0
    for part in (part for part in parts if part.size):
        taken = part[:, : sample_RM.shape[1] - filled]
        sample_RM[:, filled : filled + taken.shape[1]] = taken
        filled += taken.shape[1]
    return sample_RM[:, :filled]


def sample_stride(fusion: Fusion, rows: int) -> int:
    """Return the distance of the runs that are sampled of the whole model; 0 if it is counted without a sample."""
    if fusion.num_elements * rows < _FEWEST_VALUES or fusion.recipe.whole_rows:
        return 0
    samples = _SAMPLED_VALUES // rows
    return max(fusion.num_elements * SAMPLE_RUN // samples, SAMPLE_RUN)


def _sort(reader: BlockReader, this: Pass, piece: PieceTask) -> Float64:
    measure = _ranked(this)
    blocks = [np.abs(to_numpy(measure.of(block)).astype(np.float32)) for block in _blocks(reader, this, piece)]
    values_RN: NDArray[np.float32] = np.hstack(blocks)
    values_RN.sort(axis=1)  # several times faster than partitioning by several ranks
    return (
        values_RN[:, np.array(measure.ranks(values_RN.shape[1], _known(this, piece.tensor)))].astype(np.float64).ravel()
    )


def _num_rows(shards: Sequence[Shard], this: Pass) -> int:
    """Ask the measure how many rows it ranks, with the first block there is."""
    with BlockReader(this.fusion) as reader:
        first = next((piece for shard in shards for piece in _measured_pieces(shard)), None)
        if first is None:
            return 0
        elements = next(element_ranges(this.fusion, first, is_measured=True))
        return len(_measure_of(this).of(reader.block(first, elements, step=this.step)))


def is_sorted(fusion: Fusion, piece: PieceTask) -> bool:
    """Whether a tensor lies whole in its piece, and is small."""
    is_whole = piece.num_elements == piece.tensor_elements
    return is_whole and piece.num_elements * fusion.num_contributions <= _SORTED_VALUES


def _blocks(reader: BlockReader, this: Pass, piece: PieceTask) -> Iterator[Block]:
    reader.forget()
    if _is_on_device(this):
        for elements in element_ranges(this.fusion, piece, is_measured=True, length=this.fusion.device_elements):
            yield reader.on_device.block(piece, elements, step=this.step)
        return
    measure = _measure_of(this)
    with_deltas = not isinstance(measure, Sums) or measure.reads_deltas
    for elements in element_ranges(this.fusion, piece, is_measured=True):
        yield reader.block(piece, elements, step=this.step, with_deltas=with_deltas)


def _sampled(piece: PieceTask, stride: int) -> Iterator[ElementRange]:
    """Choose one run in every stride of a piece, each at another place: models repeat themselves at even distances."""
    rng = np.random.Generator(np.random.Philox(key=crc32(f"{piece.tensor}/{piece.first}".encode())))
    for start in range(0, piece.num_elements, stride):
        first = start + int(rng.integers(max(stride - SAMPLE_RUN, 1)))
        if first < piece.num_elements:
            yield piece.first + first, min(SAMPLE_RUN, piece.num_elements - first)


def _measured_pieces(shard: Shard) -> list[PieceTask]:
    return [piece for piece in shard.pieces if piece.is_fused]


def _group(measure: Measure, piece: PieceTask) -> str:
    return "" if measure.per == "model" else piece.tensor


def _known(this: Pass, group: str) -> Mapping[str, Float64]:
    """Return what the method's measures before found in a tensor, or in the model."""
    return this.fusion.measured.get((this.step, group), {})


def _measure_of(this: Pass) -> Measure:
    return this.fusion.recipe.steps[this.step].measures()[this.measure]


def _is_on_device(this: Pass) -> bool:
    return this.fusion.is_on_device(this.step, _measure_of(this))


def _ranked(this: Pass) -> Ranked:
    return cast(Ranked, _measure_of(this))


def in_order(results: Iterator[tuple[int, R]]) -> Iterator[R]:
    """Yield results in the order of their items; those that come early wait."""
    waiting: dict[int, R] = {}
    wanted = 0
    for index, result in results:
        waiting[index] = result
        while wanted in waiting:
            yield waiting.pop(wanted)
            wanted += 1
