"""Statistics that somebody has computed elsewhere (`coldfuse statistics`), coded to travel beside a delta."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.blob import Blob
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import blob_digest
from coldfuse.core.statistics import Coding, ContributedStatistics, StatisticsRule
from coldfuse.errors import UserInputError
from coldfuse.tensors.coded_statistics import usual_coding, write_coded_statistics
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.statistics import check_statistics
from coldfuse.tensors.tensor_file import open_tensors
from coldfuse.tensors.tensor_reader import TensorReader


def bring_statistics(  # noqa: PLR0913 - what there is to say, by keyword
    file: Path,
    out: Path,
    *,
    base: Schema,
    rule: StatisticsRule,
    delta: Blob,
    model: str | None = None,
    coding: Coding | None = None,
) -> ContributedStatistics | None:
    """Write a file of statistics as it travels; None where the federation asks for none.

    Args:
        file: The statistics as they were computed, in F32.
        out: The file to write; it is there whole or not at all.
        base: The base's tensors.
        rule: What the federation asks for.
        delta: The delta's parts, which the file will name.
        model: Digest of the model that they must be of, where it is known.
        coding: How the numbers travel; None for what suits the kind.

    Raises:
        UserInputError: The file cannot be read, or a number in it cannot be.
        CodecError: It is none of statistics.
        SchemaMismatchError: The statistics are of another kind or model, or do not fit the base.
    """
    if rule.wanted is None:
        return None
    given = open_tensors(LocalFile(file))
    info = check_statistics(given.header, base, kind=rule.wanted, what=str(file), model=model)
    if info.coding is not None:
        raise UserInputError(
            f"{file}: coded to travel beside another delta; give the file that coldfuse statistics wrote"
        )
    coding = coding or usual_coding(info.kind)
    coded = info.model_copy(update={"coding": coding, "delta": blob_digest(delta), "model": None})
    shapes = {name: spec.shape for name, spec in given.header.schema.items()}
    with TensorReader([given]) as reader:

        def read(name: str) -> NDArray[np.floating]:
            return reader.floats(name).reshape(shapes[name])

        blob, error = write_coded_statistics(out, shapes, read, coded)
    return ContributedStatistics(
        kind=info.kind, estimator=info.estimator, coding=coding, num_examples=info.num_examples, count=info.count,
        error=error, file=blob, digest=blob_digest(blob),
    )  # fmt: skip
