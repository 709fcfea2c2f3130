"""From operands to blocks: read, decode, subtract the base, and apply the transforms that come before a step.

One reader serves one task, and its buffers every block.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.adapters.adapter import Stored
from coldfuse.core.dtypes import Raw
from coldfuse.core.schema import ITEM_BYTES, size_of
from coldfuse.engine.coded import CodedReader
from coldfuse.engine.devices import own_stream, to_device
from coldfuse.engine.expander import Expander
from coldfuse.engine.finite import require_finite
from coldfuse.engine.job import SUM_ELEMENTS, Fusion
from coldfuse.engine.operands import AnyOperand, CodedOperand, Operand, operand_of
from coldfuse.engine.plan import PieceTask
from coldfuse.engine.preload import expect
from coldfuse.engine.range_reader import RangeReader
from coldfuse.engine.ranges import ElementRange, has_rows, info_of, kind_of, whole_rows
from coldfuse.errors import FusionError
from coldfuse.fusion.apply import surely_finite
from coldfuse.fusion.block import Array, Block, Float64, Matrix
from coldfuse.fusion.kernels import decode, subtract_rows, sum_rows
from coldfuse.fusion.method import LinearCombination
from coldfuse.fusion.rows import DeltaRows

_idle = threading.local()
"""Buffers of tasks that this thread has finished, for the next one: fresh memory costs a page fault every 4 KiB."""


class BlockReader:
    """Reads blocks of pieces for one task. Use as a context manager."""

    def __init__(self, fusion: Fusion) -> None:
        self._fusion = fusion
        self._reader = RangeReader(request_bytes=fusion.request_bytes)
        self._buffers: dict[str, Raw] = {}
        self._coded = CodedReader(self._reader.read_into, lambda num_bytes: self.buffer("codes", num_bytes))
        self._base_held: tuple[int, ElementRange] | None = None
        self._is_base_decoded = False
        self._expander = Expander(fusion.factor_bytes, lambda operand, *elements: self.values(operand, elements))
        self._stream = ExitStack()

    def __enter__(self) -> BlockReader:
        expect(self._fusion.num_elements * self._fusion.num_contributions)
        self._buffers = _idle.buffers.pop() if getattr(_idle, "buffers", None) else {}
        self._stream.enter_context(own_stream(self._fusion.device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        _idle.buffers = [*getattr(_idle, "buffers", []), self._buffers]
        self._buffers = {}
        self._stream.__exit__(kind, error, trace)

    def raw(self, operand: Operand, elements: ElementRange, *, into: Raw | None = None) -> Raw:
        """Read elements as they lie in the file."""
        first, count = elements
        raw = self.buffer("raw", size_of(operand.dtype, count)) if into is None else into
        self._reader.read_into(operand.where, raw.data, size_of(operand.dtype, first - operand.first))
        return raw

    def read_factor(self, stored: Stored, first: int, count: int) -> Float64:
        """Read elements of a factor; see `adapters.changes.Read`."""
        return self.values(operand_of(stored), (first, count))

    def forget(self) -> None:
        """Let go of what was read ahead: another piece comes."""
        self._reader.forget()
        self._base_held = None
        self._expander.forget()

    def values(self, operand: Operand, elements: ElementRange) -> NDArray[Any]:
        """Read elements as float64, into an array of their own; bytes are no floats, and stay what they are."""
        if operand.dtype == "U8":
            return self.raw(operand, elements).copy()
        values = np.empty(elements[1])
        decode(self.raw(operand, elements), operand.dtype, values)
        return values

    def base_raw(self, piece: PieceTask, elements: ElementRange) -> Raw:
        """Read the base's elements as they lie in the file."""
        raw = self.buffer("base raw", elements[1] * ITEM_BYTES[piece.base.dtype])
        if self._base_held != (id(piece), elements):
            self.raw(piece.base, elements, into=raw)
            self._base_held, self._is_base_decoded = (id(piece), elements), False
        return raw

    def base(self, piece: PieceTask, elements: ElementRange) -> Float64:
        """Read the base's elements as float64."""
        raw, base_N = self.base_raw(piece, elements), self._floats("base", elements[1])
        if not self._is_base_decoded:
            decode(raw, piece.base.dtype, base_N)
            self._is_base_decoded = True
        return base_N

    def block(self, piece: PieceTask, elements: ElementRange, *, step: int, with_deltas: bool = True) -> Block:
        """Return a block as it arrives at a step of the recipe: after all transforms before it."""
        base_N = self.base(piece, elements)
        deltas_CN = self._floats("deltas", self._fusion.num_contributions * elements[1]).reshape(-1, elements[1])
        if with_deltas:
            self._fill(piece, elements, base_N, deltas_CN, range(len(deltas_CN)))
        block = Block(
            info=info_of(self._fusion, piece, step),
            first=elements[0],
            base_N=base_N,
            deltas_CN=deltas_CN,
            statistics_CN=self.statistics(piece, elements, step),
        )
        if with_deltas:
            self.transform(deltas_CN, range(len(deltas_CN)), block, piece, step)
        return block

    def rows(self, piece: PieceTask, elements: ElementRange, *, step: int) -> DeltaRows | None:
        """Return deltas as they lie in their files; None if they are of several kinds, or transforms come before."""
        if not has_rows(piece, step=step):
            return None
        dtype, is_delta = kind_of(piece.contributions) or ("", True)
        base = None if is_delta else self.base_raw(piece, elements)
        raw = self._read_rows(piece.contributions, elements, dtype, piece.contributions)
        return DeltaRows(raw=raw, dtype=dtype, base=base, num_rows=len(piece.contributions))

    def sum_deltas(self, piece: PieceTask, elements: ElementRange, combination: LinearCombination) -> Float64:
        """Return (b θ_t + Σ c_i δ_i) / d: what `LinearCombiner.fuse` returns, for element_ranges of `sum_length`."""
        kind = self._summed_as_read(piece, combination)
        if kind is None and self._is_summed_singly(combination):
            return self._sum_singly(piece, elements, combination)
        if kind is None:
            return combination.of(self.block(piece, elements, step=len(self._fusion.recipe.transforms)))
        dtype, is_delta = kind
        used_C = np.where([operand is not None for operand in piece.contributions], combination.deltas_C, 0.0)
        base = None if is_delta else self.base_raw(piece, elements)
        raw = self._read_rows(piece.contributions, elements, dtype, used_C)
        sum_N = self._floats("sum", elements[1])
        sum_rows(raw, dtype, base=base, coefficients_C=used_C, divisor=combination.divisor, sum_N=sum_N)
        return sum_N

    def sum_length(self, piece: PieceTask, combination: LinearCombination) -> int:
        """Return how many elements to sum at a time: fewer if the deltas have to be held together."""
        if self._summed_as_read(piece, combination):
            return self._fusion.sum_elements
        return SUM_ELEMENTS if self._is_summed_singly(combination) else self._fusion.block_elements

    def _is_summed_singly(self, combination: LinearCombination) -> bool:
        """Tell whether deltas can be added one after the other: each is then expanded in long runs, however many."""
        return not (combination.base or self._fusion.recipe.transforms)

    def _sum_singly(self, piece: PieceTask, elements: ElementRange, combination: LinearCombination) -> Float64:
        """Return what `LinearCombination.of` returns, bit by bit, holding one delta at a time."""
        base_N, sum_N = self.base(piece, elements), self._floats("sum", elements[1])
        sum_N[:] = 0.0
        delta_N = self._floats("delta", elements[1])
        for index, coefficient in enumerate(combination.deltas_C.tolist()):
            if coefficient and piece.contributions[index] is not None:
                self._fill(piece, elements, base_N, delta_N[None], [index])
                sum_N += delta_N if coefficient == 1 else np.multiply(delta_N, coefficient, out=delta_N)
        sum_N /= combination.divisor
        return sum_N

    def _summed_as_read(self, piece: PieceTask, combination: LinearCombination) -> tuple[str, bool] | None:
        """Return dtype and kind, if all deltas can be summed as they lie in their files."""
        shares = zip(piece.contributions, combination.deltas_C, strict=True)
        kind = kind_of([operand for operand, coefficient in shares if coefficient])
        if kind is None or combination.base or self._fusion.recipe.transforms:
            return None
        return kind if kind[1] or kind[0] == piece.base.dtype else None

    def _read_rows(
        self,
        operands: Sequence[AnyOperand | None],
        elements: ElementRange,
        dtype: str,
        wanted: Sequence[object] | Float64,
    ) -> Raw:
        """Read operands of one dtype as they lie in their files, a row each; the rows that are not wanted hold junk."""
        item = ITEM_BYTES[dtype]
        raw = self.buffer("raw", len(operands) * elements[1] * item)
        used = [o if isinstance(o, Operand) and wanted[i] else None for i, o in enumerate(operands)]
        offsets = [0 if operand is None else (elements[0] - operand.first) * item for operand in used]
        self._reader.read_rows([operand.where if operand else None for operand in used], offsets, raw)
        return raw

    def require_finite(self, pieces: Iterable[PieceTask]) -> None:
        """Raise `NotFiniteError` if a contribution to these pieces holds NaN or infinity."""
        for piece in pieces:
            end = piece.first + piece.num_elements
            for index in range(len(piece.contributions) if piece.is_fused else 0):
                for first in range(piece.first, end, SUM_ELEMENTS):
                    elements = first, min(SUM_ELEMENTS, end - first)
                    delta_N = self._floats("delta", elements[1])
                    self._fill(piece, elements, self.base(piece, elements), delta_N[None], [index])

    def matrix(self, piece: PieceTask, *, step: int) -> Matrix:
        """Return a whole matrix, whose deltas are read when they are asked for."""
        is_gram = self._fusion.recipe.combiner.statistic == "gram"

        def read_delta(index: int) -> Array:
            delta = np.zeros(piece.shape)
            flat_N = delta.reshape(-1)
            if piece.contributions[index] is not None:
                for first, count in whole_rows(0, delta.size, piece.shape[-1], self._fusion.block_elements):
                    base_N = self.base(piece, (first, count))
                    flat_N[first : first + count] = self._delta(piece, index, (first, count), base_N)
            return to_device(delta, self._fusion.device)

        def read_statistic(index: int) -> Array | None:
            operand = piece.statistics[index] if piece.statistics else None
            if operand is None:
                return None
            rows, columns = piece.shape[-1] if is_gram else piece.shape[0], piece.shape[-1]
            whole = 0, rows * columns
            values = self._coded.whole(operand) if isinstance(operand, CodedOperand) else self.values(operand, whole)
            return to_device(values.reshape(rows, columns), self._fusion.device)

        return Matrix(info=info_of(self._fusion, piece, step), read_delta=read_delta, read_statistic=read_statistic)

    def _delta(self, piece: PieceTask, index: int, elements: ElementRange, base_N: Float64) -> Float64:
        """Return one contribution's transformed delta, in a buffer."""
        delta_N = self._floats("delta", elements[1])
        self._fill(piece, elements, base_N, delta_N[None], [index])
        if self._fusion.recipe.transforms:
            info = info_of(self._fusion, piece, 0)
            block = Block(info=info, first=elements[0], base_N=base_N, deltas_CN=delta_N[None])
            self.transform(delta_N[None], [index], block, piece, len(self._fusion.recipe.transforms))
        return delta_N

    def transform(self, deltas_RN: Float64, rows: Sequence[int], block: Block, piece: PieceTask, step: int) -> None:
        """Apply the transforms before a step to some contributions' deltas, in place; absent ones stay zero."""
        present = [r for r, row in enumerate(rows) if piece.contributions[row] is not None]
        runs = [slice(None)] if len(present) == len(rows) else [slice(r, r + 1) for r in present]
        for before, transform in enumerate(self._fusion.recipe.transforms[:step]):
            seen = replace(block, info=info_of(self._fusion, piece, before))
            for run in runs:
                transform.transform(deltas_RN[run], np.array(rows[run]), seen)

    def _fill(
        self, piece: PieceTask, elements: ElementRange, base_N: Float64, out_RN: Float64, rows: Sequence[int]
    ) -> None:
        """Read and subtract some rows of a block; in one call if they are all of a kind."""
        operands = [piece.contributions[row] for row in rows]
        kinds = {(o.dtype, o.is_delta) if isinstance(o, Operand) else None for o in operands if o is not None}
        if len(kinds) > 1:
            for index, row in enumerate(rows):
                self._fill(piece, elements, base_N, out_RN[index : index + 1], [row])
            return
        kind = next(iter(kinds), None)
        is_finite = kind is None or self._fill_dense(operands, elements, None if kind[1] else base_N, out_RN)
        for operand, delta_N in zip(operands, out_RN, strict=True):
            if not isinstance(operand, Operand):
                delta_N[:] = 0.0 if operand is None else self._expander.expand(operand, piece.base, elements)
        if not (is_finite and (kind is not None or surely_finite(out_RN))):
            require_finite(piece, rows, out_RN, base_N)

    def _fill_dense(
        self,
        operands: Sequence[AnyOperand | None],
        elements: ElementRange,
        base_N: Float64 | None,
        out_RN: Float64,
    ) -> bool:
        """Return False if some difference is not finite; it may be junk in the row of an operand that is absent."""
        dtype = next(operand.dtype for operand in operands if isinstance(operand, Operand))
        raw = self._read_rows(operands, elements, dtype, operands)
        return subtract_rows(raw, dtype, base_N=base_N, out_CN=out_RN)

    def statistics(self, piece: PieceTask, elements: ElementRange, step: int) -> Float64 | None:
        """Read what contributions' statistics say of these elements, if a step asks; None if nobody's say anything."""
        kind = self._fusion.recipe.steps[step].statistic
        if kind in (None, "gram") or not any(piece.statistics):
            return None
        rows = self._floats("statistics", len(piece.statistics) * elements[1]).reshape(-1, elements[1])
        plain = [operand if isinstance(operand, Operand) else None for operand in piece.statistics]
        if dtype := next((operand.dtype for operand in plain if operand), None):  # one, by their format
            subtract_rows(self._read_rows(plain, elements, dtype, plain), dtype, base_N=None, out_CN=rows)
        self._coded.fill(piece.statistics, elements, rows)
        if not (surely_finite(rows) and rows.min(initial=0.0) >= 0):
            raise FusionError(f"tensor {piece.tensor}: statistics that are negative or not finite; compute them anew")
        return rows

    def _floats(self, name: str, count: int) -> Float64:
        return self.buffer(name, count * 8).view(np.float64)

    def buffer(self, name: str, num_bytes: int) -> Raw:
        """Return bytes that keep what they hold until this name is asked for again."""
        if name not in self._buffers or len(self._buffers[name]) < num_bytes:
            self._buffers[name] = np.empty(num_bytes, np.uint8)
        return self._buffers[name][:num_bytes]
