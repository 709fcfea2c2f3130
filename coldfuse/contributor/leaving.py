"""What would leave a node, tensor by tensor, and what stays: read from the files themselves, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.encodings import Encoded, part_name
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.products import Float64
from coldfuse.tensors.tensor_file import open_tensors, read_file_header
from coldfuse.tensors.tensor_reader import TensorReader

_AT_ONCE = 1 << 20
_EMBEDDINGS = ("embed", "wte", "wpe", "shared.weight")
_MATRIX = 2


@dataclass(frozen=True, kw_only=True)
class LeavingTensor:
    """One tensor's change, as it would leave."""

    name: str
    """The base's name of the tensor."""
    shape: tuple[int, ...]
    """Shape of the tensor in the base."""
    encoding: str
    """Kind of its encoding."""
    size_bytes: int
    """Bytes of what is stored for it."""
    relative_change: float
    """Length of the change as a share of the tensor's own; infinite where that was zero."""
    moved_rows: int | None = None
    """Of an embedding: number of rows that moved, which name the tokens that were seen; None of other tensors."""

    def as_json(self) -> dict[str, object]:
        """Return it as values of JSON."""
        change = self.relative_change
        return {**asdict(self), "shape": list(self.shape), "relative_change": change if math.isfinite(change) else None}


def list_leaving(delta: Path, base_dir: Path, base_digest: str) -> list[LeavingTensor]:
    """Read a delta's file beside its base, and return what it says of each tensor.

    Args:
        delta: The file that would leave.
        base_dir: The base's folder.
        base_digest: Model digest of the base.
    """
    base, file = open_checkpoint(base_dir), open_tensors(LocalFile(delta))
    schema, header = base.schema, read_file_header(delta)
    encoded = check_delta(header, schema, base_digest=base_digest, what=delta.name)
    sizes = {entry.name: entry.spec.size_bytes for entry in header.tensors}
    with TensorReader(base.files.values()) as theta, TensorReader([file]) as change:
        return [_leaving(name, schema[name], how, theta, change, sizes) for name, how in encoded.items()]


def list_private(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and shapes of the private tensors in a node's file; none where there is no such file."""
    if not path.is_file():
        return []
    return [(entry.name, entry.spec.shape) for entry in read_file_header(path).tensors]


def _leaving(
    name: str, spec: TensorSpec, how: Encoded, theta: TensorReader, change: TensorReader, sizes: dict[str, int]
) -> LeavingTensor:
    def read(part: str, first: int, count: int) -> Float64:
        return change.floats(part_name(name, part), first, count)

    squared = own = 0.0
    is_embedding = len(spec.shape) == _MATRIX and any(word in name for word in _EMBEDDINGS)
    rows: set[int] = set()
    for first, count in _pieces(spec.num_elements):
        delta = how.delta(spec.shape, read, first, count)
        squared += float(np.square(delta).sum())
        own += float(np.square(theta.floats(name, first, count)).sum())
        if is_embedding:
            rows.update(np.unique((np.flatnonzero(delta) + first) // spec.shape[1]).tolist())
    return LeavingTensor(
        name=name, shape=spec.shape, encoding=how.kind,
        size_bytes=sum(sizes.get(part_name(name, part), 0) for part in how.parts),
        relative_change=math.sqrt(squared / own) if own else math.inf if squared else 0.0,
        moved_rows=len(rows) if is_embedding else None,
    )  # fmt: skip


def _pieces(num_elements: int) -> Iterator[tuple[int, int]]:
    for first in range(0, num_elements, _AT_ONCE):
        yield first, min(_AT_ONCE, num_elements - first)
