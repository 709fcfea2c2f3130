"""What leaves the node: the difference between the fine-tuned body and the base, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from coldfuse.core.blob import Blob
from coldfuse.core.dtypes import Floats
from coldfuse.core.schema import TensorSpec
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.changes import ChangesByName, DenseChange, fixed_mask, write_changes
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.deltas import mask_of
from coldfuse.tensors.encodings import Encoding
from coldfuse.tensors.tensor_file import read_file_header
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.training.job import FineTuned


def write_delta(
    path: Path, base: Checkpoint, finetuned: Mapping[str, Tensor], *, encoding: Encoding, base_digest: str
) -> Blob:
    """Write the delta of the shared body to a file, and return its parts. A tensor that did not change is left out.

    Args:
        path: The file to write, whole or not at all.
        base: The base's folder.
        finetuned: The fine-tuned body, float32, by the names of the base's files.
        encoding: The delta's dtype.
        base_digest: Model digest of the base, which the delta names.

    Raises:
        SchemaMismatchError: A tensor has another shape than the base's.
        UserInputError: The file cannot be written.
    """
    schema = base.schema
    values = {name: _floats(name, tensor, schema[name]) for name, tensor in finetuned.items() if schema[name].is_fused}
    with TensorReader(base.files.values()) as theta:

        def read(name: str, first: int, count: int) -> NDArray[np.float64]:
            return values[name][first : first + count].astype(np.float64) - theta.floats(name, first, count)

        changes = ChangesByName(values, lambda name: DenseChange(partial(read, name)))
        return write_changes(path, schema, changes, dtype=encoding, base_digest=base_digest)


@dataclass(frozen=True)
class Written:
    """What was written, by its parts."""

    delta: Blob
    mask: Blob | None
    """The mask that the delta's values are at, where it has one."""


def write_finetuned(
    path: Path, base: Checkpoint, made: FineTuned, *, encoding: Encoding, base_digest: str, masks: Path
) -> Written:
    """Write what training changed to a file, each change in the form that it has.

    Args:
        path: The file to write, whole or not at all.
        base: The base's folder.
        made: What came of the training.
        encoding: Dtype to which values and factors are rounded.
        base_digest: Model digest of the base, which the delta names.
        masks: Folder of the masks of the elements that are fixed over rounds.
    """
    with TensorReader(base.files.values()) as theta:
        changes = made.changes(theta.floats)
        mask = fixed_mask(masks, base.schema, changes)
        delta = write_changes(path, base.schema, changes, dtype=encoding, base_digest=base_digest, mask=mask)
    uses_mask = mask is not None and mask_of(read_file_header(path)) == mask.digest
    return Written(delta, mask.blob if mask is not None and uses_mask else None)


def _floats(name: str, tensor: Tensor, base: TensorSpec) -> Floats:
    if tuple(tensor.shape) != base.shape:
        raise SchemaMismatchError(f"tensor {name}: shape {list(tensor.shape)}, base has {list(base.shape)}")
    floats: Floats = tensor.detach().contiguous().numpy().reshape(-1)
    return floats
