"""Where the outers' state lies: beside each of the model's files, one file a slot with the same tensors in float32.

Its parts hold the same elements as the model's parts, so that a task that makes a part of the model makes its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from coldfuse.core.schema import TensorSpec
from coldfuse.engine.plan import STATE_DTYPE, PartTask, Shard
from coldfuse.tensors.header import Header, format_header


def state_header(model: Header, slot: str) -> bytes:
    """Return the first bytes of the state of one of the model's files."""
    specs = [
        (entry.name, TensorSpec(dtype=STATE_DTYPE, shape=entry.spec.shape))
        for entry in model.tensors
        if entry.spec.is_fused
    ]
    return format_header(specs, {"format": "coldfuse-outer", "slot": slot})


def state_name(slot: str, file: str) -> str:
    """Name the state of a file."""
    return f"{slot}/{file}"


def part_starts(header_bytes: int, shards: Iterable[Shard]) -> dict[int, int]:
    """Return at which byte of a state file each part of the model's file has its numbers."""
    starts: dict[int, int] = {}
    start = header_bytes
    for part in _parts(shards):
        starts[part.index] = start
        start += part.num_fused * 4
    return starts


def file_bytes(header_bytes: int, shards: Iterable[Shard]) -> int:
    """Return the size of a state file."""
    return header_bytes + sum(part.num_fused * 4 for part in _parts(shards))


def next_age(age: int | None, known: Mapping[str, object], wanted: Sequence[str]) -> int:
    """Return how many steps a state has seen; 0, to begin anew, if it is not of the slots that are wanted."""
    slots = {name.split("/", 1)[0] for name in known}
    return age or 0 if slots == set(wanted) else 0


def _parts(shards: Iterable[Shard]) -> Iterable[PartTask]:
    return (part for shard in shards for part in shard.parts)
