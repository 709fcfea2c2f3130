"""The variance of each weight along the training: the diagonal half of SWAG (arXiv 1902.02476, section 3.2).

    σ² = E_t θ_t² − (E_t θ_t)²      over snapshots θ_t, say one an epoch, once the training has settled

Updated by Welford's rule, in float64: the difference of the two means would lose small variances, and a weight that
never moves has the variance 0 exactly. Part by part of the file that is written, so that no model is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coldfuse.core.dtypes import Raw, from_floats
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.deltas import write_safetensors
from coldfuse.tensors.parts import Piece
from coldfuse.tensors.statistics import StatisticsInfo, statistics_header
from coldfuse.tensors.tensor_reader import TensorReader


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
    model = open_checkpoint(model_dir)
    shapes = {name: spec.shape for name, spec in model.schema.items() if spec.is_fused}
    info = StatisticsInfo(
        kind="variance", estimator="swag-diagonal", model=model.digest(), num_examples=0, over="snapshots",
        count=len(snapshots),
    )  # fmt: skip
    with ExitStack() as stack:
        opened = [_open(open_checkpoint(path), model.schema, stack) for path in snapshots]
        write_safetensors(out, statistics_header(shapes, info), lambda piece: _variance(opened, piece))
    return info, len(shapes)


@dataclass(frozen=True)
class _Snapshot:
    where: str
    tensors: TensorReader

    def read(self, piece: Piece) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Read a piece's elements, in whatever dtype this snapshot has them."""
        values = self.tensors.floats(piece.tensor.name, piece.first, piece.num_elements)
        if not np.isfinite(values).all():
            raise UserInputError(
                f"{self.where}: tensor {piece.tensor.name} holds NaN or infinity; leave this snapshot out"
            )
        return values


def _open(folder: Checkpoint, schema: Schema, stack: ExitStack) -> _Snapshot:
    for name, spec in schema.items():
        own = folder.schema.get(name)
        if spec.is_fused and (own is None or own.shape != spec.shape or not own.is_fused):
            got = "no such tensor" if own is None else f"{own.dtype} of shape {list(own.shape)}"
            raise SchemaMismatchError(
                f"{folder.folder}: tensor {name}: expected a float of shape {list(spec.shape)} as the model has it, "
                f"got {got}; give snapshots of the same model"
            )
    return _Snapshot(str(folder.folder), stack.enter_context(TensorReader(folder.files.values())))


def _variance(snapshots: Sequence[_Snapshot], piece: Piece) -> Raw:
    mean, squares = np.zeros(piece.num_elements), np.zeros(piece.num_elements)
    for count, snapshot in enumerate(snapshots, start=1):
        values = snapshot.read(piece)
        step = values - mean
        mean += step / count
        squares += step * (values - mean)
    return from_floats(squares / len(snapshots), "F32")
