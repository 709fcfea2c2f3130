"""Inputs with the statistics of their contributors' data."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from coldfuse.adapters.config import CONFIG as ADAPTER_CONFIG
from coldfuse.engine.beside import find_beside
from coldfuse.engine.inputs import Input, open_input
from coldfuse.engine.left_out import weights_alone
from coldfuse.engine.tied import Tied
from coldfuse.errors import UserInputError
from coldfuse.fusion.method import Statistic
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint_or_tensors, open_file, open_tensors_at
from coldfuse.tensors.deltas import FORMAT
from coldfuse.tensors.dequantised import open_as_floats
from coldfuse.tensors.folders import Location, is_remote
from coldfuse.tensors.statistics import check_statistics
from coldfuse.tensors.tensor_file import TensorFile

_DIGESTS_AT_A_TIME = 4
"""Number of models that are read and hashed at a time."""


def open_inputs(
    base: Checkpoint,
    models: Sequence[Location],
    weights: Sequence[float],
    recipe: Recipe,
    statistics: Sequence[Location],
    *,
    tied: Tied,
) -> list[Input]:
    """Open all inputs, and check that they fit the base. Models with statistics are read whole, for their digests.

    Args:
        base: The base.
        models: Model folders, delta files or adapter folders.
        weights: One weight for each of them.
        recipe: What is to be done, which may ask for statistics.
        statistics: One file for each of them, in their order; none if the recipe asks for none.
        tied: The base's copies, as `find_tied` finds them.

    Returns:
        The inputs, in the order given.

    Raises:
        UserInputError: There is no such model, or there are too many or too few statistics.
        SchemaMismatchError: An input or its statistics do not fit the base or each other.
        CodecError: A file is not what it claims to be.
    """
    kind = recipe.statistic
    if (kind is not None) != bool(statistics) or len(statistics) not in (0, len(models)):
        wanted = f"one file of {kind} statistics a model, in their order" if kind else "none: the method uses none"
        raise UserInputError(f"--statistics: expected {wanted}, got {len(statistics)} for {len(models)} models")
    with ThreadPoolExecutor(_DIGESTS_AT_A_TIME) as pool:
        digests = list(pool.map(_digest, models)) if statistics else [None] * len(models)
    inputs = [open_input(base, path, weight, tied=tied) for path, weight in zip(models, weights, strict=True)]
    if kind is None:
        return inputs
    return [
        with_statistics(base, item, kind, open_tensors_at(path), model=of, delta=_known_delta(item))
        for item, path, of in zip(inputs, statistics, digests, strict=True)
    ]


def with_statistics(
    base: Checkpoint,
    item: Input,
    kind: Statistic,
    file: TensorFile,
    *,
    model: str | None = None,
    delta: str | None = None,
) -> Input:
    """Return an input with its statistics, checked.

    Args:
        base: The base.
        item: The input.
        kind: The kind that the recipe asks for.
        file: The statistics.
        model: Digest of the model that was measured, where the input is one.
        delta: Digest of the delta that they belong to, where the input is one.

    Raises:
        CodecError: The file is none of statistics, or of another version.
        SchemaMismatchError: They are of another kind or model, or do not fit the base.
    """
    names = {} if item.fitting is None else {name: base.schema[to] for name, to in item.fitting.base_names.items()}
    check_statistics(file.header, {**base.schema, **names}, kind=kind, model=model, delta=delta, what=str(file))
    return replace(item, statistics=(file,))


def _known_delta(item: Input) -> str | None:
    """Return the digest of a delta; a model or an adapter has none."""
    return item.digest if item.is_delta and item.adapter is None else None


def _digest(path: Location) -> str | None:
    """Return a model's digest, to hold its statistics against; a delta or an adapter has none."""
    if find_beside(path, ADAPTER_CONFIG) is not None or not (is_remote(path) or Path(path).exists()):
        return None
    found = open_checkpoint_or_tensors(path)
    if isinstance(found, TensorFile):
        if found.header.metadata.get("format") == FORMAT:
            return None
        found = open_file(weights_alone(found, str(path)))
    return open_as_floats(found).digest()
