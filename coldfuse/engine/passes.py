"""The passes of a fusion over its inputs, as data: the list that is shown, followed and run.

How often ranks are counted follows from the number of values, but for the ranks of a large model: a sample guesses
where they lie, and where it misleads the last counting is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from coldfuse.core.schema import ITEM_BYTES, size_of
from coldfuse.engine.devices import CPU
from coldfuse.engine.job import Fusion
from coldfuse.engine.measure import SAMPLE_RUN, Measuring, group_of, is_sorted, measured_pieces
from coldfuse.engine.operands import AnyOperand, CodedOperand, EncodedOperand, Operand
from coldfuse.engine.plan import PieceTask, Shard, copied_shards
from coldfuse.fusion.method import MatrixCombiner, Measure, Method, Ranked, Sums
from coldfuse.fusion.selection import Windows, all_keys
from coldfuse.tensors.codes import item_bytes

_KEY_BITS = 31
"""Number of bits of the keys that are ranked; see `coldfuse.fusion.selection`."""

_SAMPLED_VALUES = 1 << 22
"""Number of values of a sample, of all rows together: 16 MiB."""

_FEWEST_VALUES = 1 << 22
"""Minimum number of values that are sampled before they are counted: fewer are counted twice in less time."""

Kind = Literal["compare", "sum", "sample", "count", "fuse"]
"""What a pass does: compare what is copied, sum, sample values, count values, or fuse."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over the inputs: what its tasks do, and to which shards."""

    kind: Kind
    fusion: Fusion
    """What all tasks share, as planned: without the results of other passes."""
    shards: Sequence[Shard]
    """The shards that have a task in this pass."""
    step: int = 0
    """Index of the recipe's step that needs it, for passes that measure."""
    measure: int = 0
    """Index of the measure among those of its step."""
    groups: frozenset[str] = frozenset()
    """Names of the tensors whose values are counted; "" for the whole model."""
    stride: int = 0
    """Number of elements from the beginning of one run of a sample to that of the next."""
    is_last_count: bool = False
    """True if the ranks are known after this pass, unless a sample misled: then it is repeated."""
    may_repeat: bool = False
    """True if a sample may mislead this pass."""

    @property
    def measures(self) -> bool:
        """True if the pass finds numbers that the recipe needs, and makes nothing."""
        return self.kind in ("sum", "sample", "count")

    @property
    def what(self) -> Measure:
        """The measure of a pass that measures."""
        return self.fusion.recipe.steps[self.step].measures()[self.measure]

    @property
    def name(self) -> str:
        """What the pass does, in a few words."""
        verbs = {"sum": "measuring", "sample": "sampling", "count": "ranking"}
        if self.kind in verbs:
            return f"{verbs[self.kind]} {self.what.name.replace('_', ' ')}"
        return "fusing" if self.kind == "fuse" else "comparing what is copied"

    @property
    def read_bytes(self) -> int:
        """Maximum number of bytes of the inputs that are read."""
        return sum(self.shard_bytes(shard) for shard in self.shards)

    @property
    def write_bytes(self) -> int:
        """Number of bytes that are written."""
        if self.kind != "fuse":
            return 0
        parts = [part for shard in self.shards for part in shard.parts]
        return sum(part.size_bytes + 4 * sum(part.num_kept(slot) for slot in self.fusion.slots) for part in parts)

    @property
    def place(self) -> str:
        """Where the pass works, in words, if a device was given; "" if not."""
        if self.fusion.device == CPU:
            return ""
        is_there = self.kind == "fuse" and isinstance(self.fusion.recipe.combiner, MatrixCombiner)
        return f"matrices on {self.fusion.device}" if is_there else "on the CPU"

    def shard_bytes(self, shard: Shard) -> int:
        """Return the maximum number of bytes of the inputs that the task of one shard reads."""
        if not self.measures:
            return sum(_fused_bytes(self.fusion, piece) for piece in shard.pieces)
        pieces, step = measured_pieces(shard), self.fusion.recipe.steps[self.step]
        if self.kind == "sample":
            runs = [ceil(piece.num_elements / self.stride) * min(SAMPLE_RUN, piece.num_elements) for piece in pieces]
            return sum(count * _element_bytes(piece, step) for count, piece in zip(runs, pieces, strict=True))
        if self.kind == "count" and "" not in self.groups:
            pieces = [piece for piece in pieces if piece.tensor in self.groups or is_sorted(self.fusion, piece)]
        if isinstance(self.what, Sums) and not self.what.reads_deltas:
            return sum(_num_elements(self.fusion, piece) * _items(piece.base, *piece.statistics) for piece in pieces)
        whole = sum(_num_elements(self.fusion, piece) * _element_bytes(piece, step) for piece in pieces)
        return whole + sum(map(_encoded_bytes, pieces))


Progress = Callable[[Pass, int | None], None]
"""progress(pass, shard): the pass begins (None), or the task of this shard is done."""


def plan_passes(
    fusion: Fusion, *, made: Sequence[Shard], measured: Sequence[Shard], compares: bool = False
) -> list[Pass]:
    """List the passes of a fusion, in order.

    Args:
        fusion: What all passes share.
        made: The shards of what is made.
        measured: The shards of what is measured: the base's own files, however the result is cut.
        compares: True to compare what models must agree on in a pass of its own, for outputs that copy none of it; a
            model's copies are compared as they are made.
    """
    copied = copied_shards(measured) if compares else []
    passes = [Pass(kind="compare", fusion=fusion, shards=copied)] if copied else []
    passes += measuring_passes(fusion, measured)
    return [*passes, Pass(kind="fuse", fusion=fusion, shards=made)]


def measuring_passes(fusion: Fusion, shards: Sequence[Shard]) -> Iterator[Pass]:
    """List the passes that measure what the recipe's steps need before they can be applied, in order."""
    if not any(measured_pieces(shard) for shard in shards):
        return
    for step, method in enumerate(fusion.recipe.steps):
        for index, measure in enumerate(method.measures()):
            common: dict[str, Any] = {"fusion": fusion, "step": step, "measure": index}
            if isinstance(measure, Sums):
                yield Pass(kind="sum", shards=shards, **common)
            elif measure.per == "model":
                yield from _model_ranks(measure, shards, common)
            else:
                yield from _tensor_ranks(measure, shards, common)


def _model_ranks(measure: Ranked, shards: Sequence[Shard], common: dict[str, Any]) -> Iterator[Pass]:
    """List the passes for ranks in the whole model: one after a sample, if it guesses well."""
    fusion: Fusion = common["fusion"]
    rows = num_rows(fusion, measure)
    stride = sample_stride(fusion, rows)
    counting = {"kind": "count", "shards": shards, "groups": frozenset({""}), **common}
    if stride:
        yield Pass(kind="sample", shards=shards, stride=stride, **common)
        yield Pass(**counting, is_last_count=True, may_repeat=True)
        return
    windows = first_windows(Measuring(**common), measure, fusion.num_elements, "")
    rounds = _num_rounds(windows)
    yield from (Pass(**counting, is_last_count=done == rounds) for done in range(1, rounds + 1))


def _tensor_ranks(measure: Ranked, shards: Sequence[Shard], common: dict[str, Any]) -> Iterator[Pass]:
    """List the passes for ranks in each tensor: small ones are sorted in the first, larger ones take several."""
    fusion: Fusion = common["fusion"]
    rounds = {
        name: _num_rounds(first_windows(Measuring(**common), measure, size, name))
        for name, size in counted_tensors(fusion, shards).items()
    }
    last = max([1, *rounds.values()])
    for done in range(last):
        groups = frozenset(name for name, number in rounds.items() if number > done)
        todo = [s for s in shards if not done or any(group_of(measure, p) in groups for p in measured_pieces(s))]
        yield Pass(kind="count", shards=todo, groups=groups, is_last_count=done == last - 1, **common)


def counted_tensors(fusion: Fusion, shards: Sequence[Shard]) -> dict[str, int]:
    """Return the number of elements of each tensor that is too large to be sorted."""
    pieces = [piece for shard in shards for piece in measured_pieces(shard)]
    return {piece.tensor: piece.tensor_elements for piece in pieces if not is_sorted(fusion, piece)}


def num_rows(fusion: Fusion, measure: Ranked) -> int:
    """Return the number of rows whose values are ranked apart: one a contribution, or one of all together."""
    return measure.rows(fusion.num_contributions)


def first_windows(measuring: Measuring, measure: Ranked, size: int, group: str) -> Windows:
    """Return windows over everything, for the ranks of a tensor or of the model."""
    return all_keys(num_rows(measuring.fusion, measure), measure.ranks(size, measuring.known(group)), size)


def sample_stride(fusion: Fusion, rows: int) -> int:
    """Return the distance of the runs that are sampled of the whole model; 0 if it is counted without a sample."""
    if fusion.num_elements * rows < _FEWEST_VALUES or fusion.recipe.whole_rows:
        return 0
    return max(fusion.num_elements * SAMPLE_RUN // num_sampled(rows), SAMPLE_RUN)


def num_sampled(rows: int) -> int:
    """Return the number of values of each row that a sample holds."""
    return _SAMPLED_VALUES // rows


def _num_rounds(windows: Windows) -> int:
    """Return how often it takes to count until windows over everything are one key wide."""
    return ceil(_KEY_BITS / (windows.num_bins.bit_length() - 1))


def _num_elements(fusion: Fusion, piece: PieceTask) -> int:
    """Return how many elements are looked at: whole rows may reach beyond the piece."""
    if not (fusion.recipe.whole_rows and piece.shape and piece.shape[-1]):
        return piece.num_elements
    row, end = piece.shape[-1], piece.first + piece.num_elements
    return (-(-end // row) - piece.first // row) * row


def _element_bytes(piece: PieceTask, step: Method) -> int:
    """Return what one element takes in the base, in all contributions, and in statistics if the step looks at them."""
    statistics = piece.statistics if step.statistic not in (None, "gram") else ()
    return _items(piece.base, *piece.contributions, *statistics)


def _fused_bytes(fusion: Fusion, piece: PieceTask) -> int:
    kept = piece.num_elements * _items(*piece.state)
    if _num_elements(fusion, piece) > piece.num_elements:
        kept += piece.num_elements * _items(piece.base)  # again, without what whole rows reach beyond the piece
    if not piece.is_fused:
        copied = (operand for operand in (piece.base, *piece.contributions) if isinstance(operand, Operand))
        return sum(size_of(operand.dtype, piece.num_elements) for operand in copied)
    if not any(piece.contributions) and not fusion.recipe.slots:
        return kept + piece.num_elements * _items(piece.base)
    if isinstance(fusion.recipe.combiner, MatrixCombiner) and piece.is_matrix:
        return kept + piece.num_elements * _items(piece.base) + (0 if piece.first else _matrix_bytes(piece))
    kept += _encoded_bytes(piece)
    if fusion.sums_deltas:
        return kept + _num_elements(fusion, piece) * _items(piece.base, *piece.contributions)
    return kept + _num_elements(fusion, piece) * _element_bytes(piece, fusion.recipe.combiner)


def _matrix_bytes(piece: PieceTask) -> int:
    """Return what a whole matrix takes: the base is read again for every delta."""
    deltas = [operand for operand in piece.contributions if operand is not None]
    coded = sum(operand.where.length for operand in piece.statistics if isinstance(operand, CodedOperand))
    squares = piece.shape[-1] ** 2 * _items(*(o for o in piece.statistics if isinstance(o, Operand))) + coded
    return piece.tensor_elements * sum(_items(piece.base, delta) for delta in deltas) + squares


def _encoded_bytes(piece: PieceTask) -> int:
    """Return what is read of factors and single elements, as a share of what they take; the rest is held or small."""
    stored = sum(
        part.where.length
        for operand in piece.contributions
        if isinstance(operand, EncodedOperand)
        for part in operand.parts.values()
    )
    return stored * piece.num_elements // piece.tensor_elements


def _items(*operands: AnyOperand | CodedOperand | None) -> int:
    """Return what one element takes in all operands; factors of adapters are small, and not counted."""
    coded = sum(item_bytes(operand.coding) for operand in operands if isinstance(operand, CodedOperand))
    return coded + sum(ITEM_BYTES[operand.dtype] for operand in operands if isinstance(operand, Operand))
