"""Blocks on a device: read as they lie in their files, sent there, and decoded there.

Work on a device is begun by one call and done later. So that a thread reads one block while the one before is sent and
worked on, it fills two buffers in turn, in memory that the device reads without the processor (pinned), and results
are fetched one block later. All of a thread's work there goes through one stream (`own_stream`), in order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from coldfuse.core.dtypes import Raw
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.engine.job import Fusion, sent_bytes, sent_dtype
from coldfuse.engine.plan import AdapterOperand, Operand, PieceTask
from coldfuse.engine.ranges import ElementRange, info_of
from coldfuse.fusion.block import Array, Block, Float64

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class Reader(Protocol):
    """What reads on the CPU; see `reading.BlockReader`."""

    def raw(self, operand: Operand, elements: ElementRange, *, into: Raw | None = None) -> Raw:
        """Read elements as they lie in the file."""

    def expand(self, operand: AdapterOperand, piece: PieceTask, elements: ElementRange) -> Float64:
        """Expand an adapter's delta."""

    def statistics(self, piece: PieceTask, elements: ElementRange, step: int) -> Float64 | None:
        """Read what a step asks for beside the deltas."""

    def transform(self, deltas_RN: Array, rows: Sequence[int], block: Block, piece: PieceTask, step: int) -> None:
        """Apply the transforms before a step."""


class DeviceBlocks:
    """Makes blocks of pieces on a device for one task, from what its reader reads."""

    def __init__(self, fusion: Fusion, reader: Reader) -> None:
        self._fusion, self._reader = fusion, reader
        self._outbox = _Outbox(fusion.device)
        self._largest: torch.Tensor | None = None
        """Of all deltas so far; NaN if one was."""

    @property
    def are_finite(self) -> bool:
        """Whether all deltas so far were. Waits for the device."""
        return self._largest is None or math.isfinite(self._largest)

    def block(self, piece: PieceTask, elements: ElementRange, *, step: int) -> Block:
        """Return a block as it arrives at a step of the recipe: after all transforms before it."""
        base_N, *rows = self._send(piece, elements)
        are_models = [isinstance(operand, Operand) and not operand.is_delta for operand in piece.contributions]
        base_N, deltas_CN = decode_rows(base_N, rows, are_models)
        self._note(deltas_CN)
        statistics_CN = self._reader.statistics(piece, elements, step)
        block = Block(
            info=info_of(self._fusion, piece, step),
            first=elements[0],
            base_N=cast(Float64, base_N),
            deltas_CN=cast(Float64, deltas_CN),
            statistics_CN=None if statistics_CN is None else self._outbox.copied(statistics_CN),
        )
        self._reader.transform(deltas_CN, range(len(rows)), block, piece, step)
        return block

    def _note(self, deltas_CN: torch.Tensor) -> None:
        import torch

        if deltas_CN.numel():
            largest = deltas_CN.abs().amax()
            self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def fetch(self, fused_N: Float64) -> Callable[[], Float64]:
        """Begin to copy a result to the CPU; return what waits for it."""
        return self._outbox.fetch(cast("torch.Tensor", fused_N))

    def _send(self, piece: PieceTask, elements: ElementRange) -> list[torch.Tensor]:
        """Read the base and all contributions and send them in one copy; return them, without elements if absent."""
        operands = (piece.base, *piece.contributions)
        ends = list(accumulate(sent_bytes(piece, elements[1]), initial=0))
        host = self._outbox.buffer(ends[-1])
        for operand, start in zip(operands, ends, strict=False):
            if operand is not None:
                self._read(piece, operand, elements, host[start:])
        sent = self._outbox.send(ends[-1])
        return [
            _typed(sent[start:], sent_dtype(operand), elements[1]) if operand else sent[:0]
            for operand, start in zip(operands, ends, strict=False)
        ]

    def _read(self, piece: PieceTask, operand: Operand | AdapterOperand, elements: ElementRange, into: Raw) -> None:
        into = into[: elements[1] * ITEM_BYTES[sent_dtype(operand)]]
        if isinstance(operand, AdapterOperand):
            into.view("f8")[:] = self._reader.expand(operand, piece, elements)
        else:
            self._reader.raw(operand, elements, into=into)


class _Outbox:
    """What a thread sends to a device and fetches from it."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)
        self._is_gpu = self._device.type == "cuda"
        self._buffers = [self._memory(0), self._memory(0)]
        self._sent: list[torch.cuda.Event | None] = [None, None]
        """When each buffer may be overwritten."""
        self._turn = 0

    def buffer(self, num_bytes: int) -> Raw:
        """Return the buffer that was sent longer ago, once it has been."""
        self._turn = 1 - self._turn
        if (sent := self._sent[self._turn]) is not None:
            sent.synchronize()
        if len(self._buffers[self._turn]) < num_bytes:
            self._buffers[self._turn] = self._memory(num_bytes)
        return cast(Raw, self._buffers[self._turn][:num_bytes].numpy())

    def send(self, num_bytes: int) -> torch.Tensor:
        """Begin to copy that buffer to the device."""
        sent = self._buffers[self._turn][:num_bytes].to(self._device, non_blocking=True, copy=True)
        self._sent[self._turn] = self._event()
        return sent

    def copied(self, rows: Float64) -> Float64:
        """Copy numbers to the device."""
        import torch

        return cast(Float64, torch.from_numpy(rows).to(self._device, copy=True))

    def fetch(self, values: torch.Tensor) -> Callable[[], Float64]:
        """Begin to copy numbers from the device."""
        if not self._is_gpu:
            return lambda: cast(Float64, values.numpy())
        there = self._memory(8 * values.numel()).view(values.dtype)
        there.copy_(values, non_blocking=True)
        fetched = self._event()

        def wait() -> Float64:
            if fetched is not None:
                fetched.synchronize()
            return cast(Float64, there.numpy())

        return wait

    def _memory(self, num_bytes: int) -> torch.Tensor:
        import torch

        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._is_gpu)

    def _event(self) -> torch.cuda.Event | None:
        """Mark what has been begun so far."""
        import torch

        return torch.cuda.current_stream(self._device).record_event() if self._is_gpu else None


def decode_rows(
    base_N: torch.Tensor, rows: Sequence[torch.Tensor], are_models: Sequence[bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the base and all deltas in float64, without loss; rows without an element are zero."""
    import torch

    base_N = base_N.double()
    deltas_CN = base_N.new_zeros(len(rows), len(base_N))
    for delta_N, row_N, is_model in zip(deltas_CN, rows, are_models, strict=True):
        if is_model:
            torch.sub(row_N, base_N, out=delta_N)  # which widens both first
        elif len(row_N):
            delta_N.copy_(row_N)
    return base_N, deltas_CN


def one_later(items: Iterator[T]) -> Iterator[T]:
    """Yield every item once the next one is there, too."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def _typed(raw: torch.Tensor, dtype: str, count: int) -> torch.Tensor:
    """View bytes as numbers."""
    import torch

    kinds = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    return raw[: count * ITEM_BYTES[dtype]].view(kinds[dtype])
