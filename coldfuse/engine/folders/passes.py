"""The passes that a fusion makes over its inputs, in order, and what each of them reads: foretold from the plan alone.

How often ranks are counted follows from the number of values, but for the ranks of a large model: a sample guesses
where they lie, and counting may have to be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from coldfuse.core.schema import ITEM_BYTES
from coldfuse.engine.devices import CPU
from coldfuse.engine.folders.local import FolderTask, Prepared, compare_shard, fuse_part
from coldfuse.engine.job import Fusion
from coldfuse.engine.measure import (
    SAMPLE_RUN,
    Pass,
    count_shard,
    is_sorted,
    sample_shard,
    sample_stride,
    sum_shard,
)
from coldfuse.engine.plan import AdapterOperand, Operand, PieceTask, Shard, all_shards, copied_shards
from coldfuse.fusion.block import Block, TensorInfo
from coldfuse.fusion.method import MatrixCombiner, Measure, Method, Ranked, Sums
from coldfuse.fusion.selection import Windows, all_keys

_KEY_BITS = 31
"""Of the numbers that are ranked; see `coldfuse.fusion.selection`."""

Task = Callable[..., object]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A pass: one call of `Executor.run`."""

    task: Task
    shared: Pass | FolderTask | Fusion
    shards: Sequence[Shard]
    may_repeat: bool = False
    """Whether more passes of this kind may follow, which nobody can know before."""

    @property
    def read_bytes(self) -> int:
        """Bytes of the inputs that are read, at most."""
        return sum(bytes_of(self.task, self.shared, shard) for shard in self.shards)

    @property
    def place(self) -> str:
        """Where it works, if a device was given; "" if not."""
        shared = self.shared
        fusion = shared if isinstance(shared, Fusion) else shared.fusion
        combiner, is_there = fusion.recipe.combiner, False
        if fusion.device == CPU:
            return ""
        if isinstance(shared, Pass):
            is_there = self.task is not sample_shard and fusion.is_on_device(shared.step, measure_of(shared))
        elif isinstance(shared, FolderTask):
            if isinstance(combiner, MatrixCombiner):
                return f"matrices on {fusion.device}"
            is_there = fusion.is_on_device(len(fusion.recipe.transforms), combiner)
        return f"on {fusion.device if is_there else 'the CPU'}"


def passes_of(prepared: Prepared) -> Iterator[Expected]:
    """Foretell all passes of a fusion into a folder or file."""
    fusion = prepared.fusion
    if prepared.output.kind != "model" and (copied := copied_shards(prepared.measured)):
        yield Expected(task=compare_shard, shared=fusion, shards=copied)
    yield from _measuring_passes(fusion, prepared.measured)
    last = FolderTask(out=Path(), fusion=fusion, state_starts={})
    yield Expected(task=fuse_part, shared=last, shards=all_shards(prepared.plan))


def _measuring_passes(fusion: Fusion, shards: Sequence[Shard]) -> Iterator[Expected]:
    """Foretell what `measure_all` does."""
    for step, method in enumerate(fusion.recipe.steps):
        for index, measure in enumerate(method.measures()):
            this = Pass(fusion=fusion, step=step, measure=index)
            if isinstance(measure, Sums):
                yield Expected(task=sum_shard, shared=this, shards=shards)
            elif measure.per == "model":
                yield from _model_ranks(this, measure, shards)
            else:
                yield from _tensor_ranks(this, measure, shards)


def name_of(task: Task, shared: object) -> str:
    """Say in a few words what a pass does."""
    if not isinstance(shared, Pass):
        return "comparing what is copied" if task is compare_shard else "fusing"
    verb = {sample_shard: "sampling", count_shard: "ranking"}.get(task, "measuring")
    return f"{verb} {measure_of(shared).name.replace('_', ' ')}"


def key_of(task: Task, shared: object) -> tuple[object, ...]:
    """Return what a pass has in common with those that only repeat it."""
    name = name_of(task, shared)
    return (name, shared.step, shared.measure) if isinstance(shared, Pass) else (name,)


def measure_of(this: Pass) -> Measure:
    """Return what a pass measures."""
    return this.fusion.recipe.steps[this.step].measures()[this.measure]


def bytes_of(task: Task, shared: object, shard: Shard) -> int:
    """Return how many bytes of the inputs a task reads, at most."""
    if isinstance(shared, (FolderTask, Fusion)):
        fusion = shared.fusion if isinstance(shared, FolderTask) else shared
        return sum(_fused_bytes(fusion, piece) for piece in shard.pieces)
    if not isinstance(shared, Pass):
        return 0
    step = shared.fusion.recipe.steps[shared.step]
    pieces = [piece for piece in shard.pieces if piece.is_fused]
    if task is sample_shard:
        runs = [ceil(piece.num_elements / shared.stride) * min(SAMPLE_RUN, piece.num_elements) for piece in pieces]
        return sum(count * _element_bytes(piece, step) for count, piece in zip(runs, pieces, strict=True))
    if task is count_shard:
        is_model = "" in shared.windows
        pieces = [p for p in pieces if is_model or p.tensor in shared.windows or is_sorted(shared.fusion, p)]
    if isinstance(measure := measure_of(shared), Sums) and not measure.reads_deltas:
        return sum(_num_elements(shared.fusion, piece) * _items(piece.base, *piece.statistics) for piece in pieces)
    return sum(_num_elements(shared.fusion, piece) * _element_bytes(piece, step) for piece in pieces)


def _model_ranks(this: Pass, measure: Ranked, shards: Sequence[Shard]) -> Iterator[Expected]:
    """Foretell passes for ranks in the whole model: with a sample one, if it guessed well."""
    fusion, rows = this.fusion, _num_rows(this, measure)
    windows = all_keys(rows, measure.ranks(fusion.num_elements, {}), fusion.num_elements)
    this = replace(this, windows={"": windows}, stride=sample_stride(fusion, rows))
    if this.stride:
        yield Expected(task=sample_shard, shared=this, shards=shards)
    counting = Expected(task=count_shard, shared=this, shards=shards, may_repeat=this.stride > 0)
    yield from [counting] * (1 if this.stride else _num_rounds(windows))


def _tensor_ranks(this: Pass, measure: Ranked, shards: Sequence[Shard]) -> Iterator[Expected]:
    """Foretell passes for ranks in each tensor: small ones are sorted in the first, larger ones take several."""
    rows = _num_rows(this, measure)
    sizes = {
        piece.tensor: piece.tensor_elements
        for shard in shards
        for piece in shard.pieces
        if piece.is_fused and not is_sorted(this.fusion, piece)
    }
    windows = {name: all_keys(rows, measure.ranks(size, {}), size) for name, size in sizes.items()}
    todo = list(shards)
    for done in range(max([1, *map(_num_rounds, windows.values())])):
        windows = {name: window for name, window in windows.items() if _num_rounds(window) > done}
        if done:
            todo = [shard for shard in todo if any(piece.tensor in windows for piece in shard.pieces)]
        yield Expected(task=count_shard, shared=replace(this, windows=windows), shards=todo)


def _num_rounds(windows: Windows) -> int:
    """Return how often it takes to count until windows over everything are one key wide."""
    return ceil(_KEY_BITS / (windows.num_bins.bit_length() - 1))


def _num_rows(this: Pass, measure: Ranked) -> int:
    """Ask the measure how many rows it ranks; one that needs earlier results for the answer has one a contribution."""
    count = this.fusion.num_contributions
    info = TensorInfo(
        tensor="", shape=(1, 1), weights_C=np.array(this.fusion.weights), present_C=np.ones(count, bool),
        keys_C=np.zeros(count, np.uint64), num_elements=1,
    )  # fmt: skip
    try:
        with np.errstate(all="ignore"):
            return len(measure.of(Block(info=info, first=0, base_N=np.zeros(1), deltas_CN=np.zeros((count, 1)))))
    except KeyError:
        return count


def _num_elements(fusion: Fusion, piece: PieceTask) -> int:
    """Return how many elements are looked at: whole rows may reach beyond the piece."""
    if not (fusion.recipe.whole_rows and piece.shape and piece.shape[-1]):
        return piece.num_elements
    row, end = piece.shape[-1], piece.first + piece.num_elements
    return (-(-end // row) - piece.first // row) * row


def _element_bytes(piece: PieceTask, step: Method) -> int:
    """Return what one element takes in the base, in all contributions, and in statistics if the step looks at them."""
    is_used = step.statistic not in (None, "gram") and all(operand is not None for operand in piece.statistics)
    statistics = piece.statistics if is_used else ()
    return _items(piece.base, *piece.contributions, *statistics)


def _fused_bytes(fusion: Fusion, piece: PieceTask) -> int:
    kept = piece.num_elements * _items(*piece.state)
    if _num_elements(fusion, piece) > piece.num_elements:
        kept += piece.num_elements * _items(piece.base)  # again, without what whole rows reach beyond the piece
    if not piece.is_fused:
        return piece.num_elements * _items(piece.base, *piece.contributions)
    if not any(piece.contributions) and not fusion.recipe.slots:
        return piece.num_elements * _items(piece.base)
    if isinstance(fusion.recipe.combiner, MatrixCombiner) and piece.is_matrix:
        return kept + piece.num_elements * _items(piece.base) + (0 if piece.first else _matrix_bytes(piece))
    if fusion.is_on_device(len(fusion.recipe.transforms), fusion.recipe.combiner):
        kept += piece.num_elements * _items(piece.base)  # once for the device, and once to be moved
    if fusion.sums_deltas:
        return kept + _num_elements(fusion, piece) * _items(piece.base, *piece.contributions)
    return kept + _num_elements(fusion, piece) * _element_bytes(piece, fusion.recipe.combiner)


def _matrix_bytes(piece: PieceTask) -> int:
    """Return what a whole matrix takes: the base is read again for every delta."""
    deltas = [operand for operand in piece.contributions if operand is not None]
    squares = piece.shape[-1] ** 2 * _items(*piece.statistics)
    return piece.tensor_elements * sum(_items(piece.base, delta) for delta in deltas) + squares


def _items(*operands: Operand | AdapterOperand | None) -> int:
    """Return what one element takes in all operands; the factors of adapters are small, and not counted."""
    return sum(ITEM_BYTES[operand.dtype] for operand in operands if isinstance(operand, Operand))
