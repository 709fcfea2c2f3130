"""How far each tensor moved, and how many rows of an embedding: what a person may want to see before a delta leaves.

The rows of an embedding that moved name the tokens that the private texts have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.schema import Schema
from coldfuse.tensors.changes import Change, DenseChange
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.encodings import Encoded, part_name
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.tensor_file import open_tensors
from coldfuse.tensors.tensor_reader import TensorReader

_AT_ONCE = 1 << 20
"""Number of elements that are looked at together."""

_EMBEDDING = ("embed", "wte", "wpe", "shared.weight")
"""What the names of embeddings have in them."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What became of one tensor."""

    name: str
    relative: float
    """Length of the change beside that of the tensor, ‖δ‖ / ‖θ_t‖; infinite where the tensor was all zero."""
    rows: int | None = None
    """Number of rows, of an embedding."""
    rows_moved: int | None = None
    """Number of rows of which anything changed, of an embedding."""


def inspect(
    changes: Mapping[str, Change], base: Schema, floats: Callable[[str, int, int], NDArray[np.float64]]
) -> list[Moved]:
    """Return what became of each tensor that changed, in the order of their names.

    Args:
        changes: What training did, by the base's names.
        base: Shapes of the base's tensors.
        floats: floats(name, first, count): return some elements of one of the base's tensors.
    """
    found = (_moved(name, changes[name], base, floats) for name in sorted(changes) if base[name].is_fused)
    return [moved for moved in found if moved is not None]


def inspect_delta(delta: Path, base: Checkpoint, *, base_digest: str, mask: Path | None = None) -> list[Moved]:
    """Return what became of each tensor by a delta's file.

    Args:
        delta: The file.
        base: The model that it was made from.
        base_digest: Its model digest.
        mask: The mask that the delta names, where it names one.

    Raises:
        CodecError: This is no delta.
        SchemaMismatchError: It was made from another base.
    """
    file, masks = open_tensors(LocalFile(delta)), [open_tensors(LocalFile(mask))] if mask else []
    of_mask = masks[0].header if masks else None
    encoded = check_delta(file.header, base.schema, base_digest=base_digest, what=str(delta), mask=of_mask)
    with TensorReader([file]) as own, TensorReader(masks) as others, TensorReader(base.files.values()) as theta:

        def change(name: str, how: Encoded) -> Change:
            def read(part: str, first: int, count: int) -> NDArray[Any]:
                return (others if part in how.mask_parts else own).numbers(part_name(name, part), first, count)

            return DenseChange(partial(how.delta, base.schema[name].shape, read))

        return inspect({name: change(name, how) for name, how in encoded.items()}, base.schema, theta.floats)


def _moved(
    name: str, change: Change, base: Schema, floats: Callable[[str, int, int], NDArray[np.float64]]
) -> Moved | None:
    shape = base[name].shape
    columns = shape[-1] if len(shape) == 2 else 1
    step = max(1, _AT_ONCE // max(columns, 1)) * columns
    squares, own, rows_moved = 0.0, 0.0, 0
    for first in range(0, base[name].num_elements, max(step, 1)):
        count = min(step, base[name].num_elements - first)
        delta, theta = change.read(first, count), floats(name, first, count)
        squares, own = squares + float(delta @ delta), own + float(theta @ theta)
        rows_moved += int(delta.reshape(-1, columns).any(axis=1).sum())
    if not squares:
        return None
    relative = (squares / own) ** 0.5 if own else float("inf")
    is_embedding = len(shape) == 2 and any(word in name.lower() for word in _EMBEDDING)
    return Moved(
        name=name, relative=relative, rows=shape[0] if is_embedding else None,
        rows_moved=rows_moved if is_embedding else None,
    )  # fmt: skip
