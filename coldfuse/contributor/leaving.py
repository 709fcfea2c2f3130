"""What would leave a node, tensor by tensor, and what stays: read from the files themselves, for people to look at."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.encodings import part_name
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.inspecting import inspect_delta
from coldfuse.tensors.tensor_file import open_tensors, read_file_header


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


def list_leaving(delta: Path, base_dir: Path, base_digest: str, *, mask: Path | None = None) -> list[LeavingTensor]:
    """Read a delta's file beside its base, and return what it says of each tensor.

    Args:
        delta: The file that would leave.
        base_dir: The base's folder.
        base_digest: Model digest of the base.
        mask: The mask that the delta names, where it names one.
    """
    base, header = open_checkpoint(base_dir), read_file_header(delta)
    masks = open_tensors(LocalFile(mask)).header if mask else None
    encoded = check_delta(header, base.schema, base_digest=base_digest, what=delta.name, mask=masks)
    sizes = {entry.name: entry.spec.size_bytes for entry in header.tensors}
    moved = {one.name: one for one in inspect_delta(delta, base, base_digest=base_digest, mask=mask)}
    return [
        LeavingTensor(
            name=name, shape=base.schema[name].shape, encoding=how.kind,
            size_bytes=sum(sizes.get(part_name(name, part), 0) for part in how.parts),
            relative_change=moved[name].relative if name in moved else 0.0,
            moved_rows=moved[name].rows_moved if name in moved else None,
        )
        for name, how in encoded.items()
    ]  # fmt: skip


def list_private(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and shapes of the private tensors in a node's file; none where there is no such file."""
    if not path.is_file():
        return []
    return [(entry.name, entry.spec.shape) for entry in read_file_header(path).tensors]
