"""The variance of each weight along the training: the diagonal half of SWAG (arXiv 1902.02476, section 3.2).

    σ² = E_t θ_t² − (E_t θ_t)²      over snapshots θ_t, say one an epoch, once the training has settled

Updated by Welford's rule, in float64: the difference of the two means would lose small variances, and a weight that
never moves has the variance 0 exactly. Part by part of the file that is written, so that no model is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coldfuse.core.dtypes import Raw, from_floats, to_floats
from coldfuse.core.schema import ITEM_BYTES, Schema
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.deltas import write_safetensors
from coldfuse.tensors.header import TensorEntry
from coldfuse.tensors.local_file import LocalFile
from coldfuse.tensors.model_folder import ModelFolder, open_model_folder
from coldfuse.tensors.parts import Piece
from coldfuse.tensors.statistics import StatisticsInfo, statistics_header


def write_variance(out: Path, model_dir: Path, snapshots: Sequence[Path]) -> tuple[StatisticsInfo, int]:
    """Write the variance of every weight over snapshots of a model's training.

    Args:
        out: The file to write; it is there whole or not at all.
        model_dir: The model that the statistics are of.
        snapshots: Folders of the same model at different times of its training.

    Returns:
        What the file says of itself, and the number of its tensors.

    Raises:
        UserInputError: There are fewer than two snapshots, or one holds NaN or infinity.
        SchemaMismatchError: A snapshot is of another model.
    """
    if len(snapshots) < 2:
        raise UserInputError(f"--snapshot: expected two or more for a variance, got {len(snapshots)}")
    model = open_model_folder(model_dir)
    shapes = {name: spec.shape for name, spec in model.schema.items() if spec.is_fused}
    info = StatisticsInfo(
        kind="variance", estimator="swag-diagonal", model=model.digest(), num_examples=0, over="snapshots",
        count=len(snapshots),
    )  # fmt: skip
    with ExitStack() as stack:
        opened = [_open(open_model_folder(path), model.schema, stack) for path in snapshots]
        write_safetensors(out, statistics_header(shapes, info), lambda piece: _variance(opened, piece))
    return info, len(shapes)


@dataclass(frozen=True)
class _Snapshot:
    path: Path
    tensors: Mapping[str, tuple[LocalFile, TensorEntry]]

    def read(self, piece: Piece) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Read a piece's elements, in whatever dtype this snapshot has them."""
        file, entry = self.tensors[piece.tensor.name]
        item = ITEM_BYTES[entry.spec.dtype]
        raw = np.empty(piece.num_elements * item, np.uint8)
        file.read_into(raw.data, entry.start + piece.first * item)
        values = to_floats(raw, entry.spec.dtype).astype(np.float64)
        if not np.isfinite(values).all():
            raise UserInputError(f"{self.path}: tensor {entry.name} holds NaN or infinity; leave this snapshot out")
        return values


def _open(folder: ModelFolder, schema: Schema, stack: ExitStack) -> _Snapshot:
    for name, spec in schema.items():
        own = folder.schema.get(name)
        if spec.is_fused and (own is None or own.shape != spec.shape or not own.is_fused):
            got = "no such tensor" if own is None else f"{own.dtype} of shape {list(own.shape)}"
            raise SchemaMismatchError(
                f"{folder.path}: tensor {name}: expected a float of shape {list(spec.shape)} as the model has it, got "
                f"{got}; give snapshots of the same model"
            )
    files = {file: stack.enter_context(LocalFile(folder.path / file)) for file in folder.headers}
    return _Snapshot(folder.path, {name: (files[file], entry) for name, (file, entry) in folder.tensors().items()})


def _variance(snapshots: Sequence[_Snapshot], piece: Piece) -> Raw:
    mean, squares = np.zeros(piece.num_elements), np.zeros(piece.num_elements)
    for count, snapshot in enumerate(snapshots, start=1):
        values = snapshot.read(piece)
        step = values - mean
        mean += step / count
        squares += step * (values - mean)
    return from_floats(squares / len(snapshots), "F32")
