"""How alike the weights of models are: inner products and agreeing signs of every pair, tensor by tensor.

    G_ij = ⟨v_i, v_j⟩      s_ij = #{n: v_in v_jn > 0}      b_ij = #{n: v_in ≠ 0 ≠ v_jn}

where v_i is the task vector δ_i = θ_i − θ of a model, delta or adapter on its base, or the weights θ_i themselves. All
are sums over elements, so one pass over the files' ranges is enough, in memory that does not grow with the models; the
sums of tensors are those of a layer or of the model.

Letters: M models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from coldfuse.core.left_out import LeftOut
from coldfuse.engine.execution import Executor
from coldfuse.engine.expansions import expanded
from coldfuse.engine.folder_fusion import FolderFusion, open_fusion
from coldfuse.engine.fuse import Prepared, read_ahead
from coldfuse.engine.job import Fusion, require_memory
from coldfuse.engine.measuring import measure_all
from coldfuse.engine.passes import Progress, measuring_passes
from coldfuse.engine.plan import PieceTask, Shard
from coldfuse.errors import SchemaMismatchError
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Measure, Sums
from coldfuse.fusion.products import inner_products
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.checkpoint import require_unchanged
from coldfuse.tensors.folders import Location

Sides = Mapping[str, Float64]
"""Sums G, s and b of each tensor, shape (3, M, M)."""

_NAME = "likeness"

_FEWEST = 0.5
"""Share of the base's elements that a model must have, to be compared with it."""


class _OfTaskVectors(Mean):
    """A combiner for its measure."""

    summary = "inner products and agreeing signs of the task vectors"
    source = "arXiv 2212.04089"

    def measures(self) -> tuple[Measure, ...]:
        """Measure G, s and b of each tensor."""
        return (Sums(name=_NAME, of=_of_deltas, per="tensor"),)


class _OfWeights(Mean):
    """A combiner for its measure."""

    summary = "inner products and agreeing signs of the weights"
    source = "arXiv 2212.04089"

    def measures(self) -> tuple[Measure, ...]:
        """Measure G, s and b of each tensor."""
        return (Sums(name=_NAME, of=_of_weights, per="tensor"),)


def compare_weights(
    base: Location,
    models: Sequence[Location],
    executor: Executor,
    *,
    scratch: Path,
    of_weights: bool = False,
    progress: Progress | None = None,
) -> tuple[Sides, tuple[LeftOut, ...]]:
    """Measure how alike models are, in one pass over their files.

    Args:
        base: The base of the task vectors; the models have its names.
        models: Model folders, deltas or adapters; each once.
        executor: Runs the tasks.
        scratch: An empty folder, for what PEFT computes of some adapters.
        of_weights: True to compare the weights, and not what they change of the base.
        progress: Called as the pass begins and shards are done.

    Returns:
        The sums of each tensor with the models in their order, and what of the models has no counterpart in the base.

    Raises:
        UserInputError: A model cannot be read, or there is too little memory.
        SchemaMismatchError: A model has other tensors than the base.
    """
    out = scratch / "compared"
    recipe = Recipe(combiner=_OfWeights() if of_weights else _OfTaskVectors())
    prepared = read_ahead(open_fusion(FolderFusion(base=base, models=models, out=out, recipe=recipe)), executor)
    _require_copies(prepared)
    fusion, shards = prepared.fusion, _only_read(prepared, of_all=of_weights)
    require_memory(fusion, {"": shards}, executor.task_bytes)
    with expanded(prepared, out):
        measured = _measure(fusion, shards, executor, progress)
    require_unchanged([file.file for file in prepared.sources])
    paths = [str(item.path) for item in prepared.inputs]
    order = [paths.index(str(model)) for model in models]
    left_out = tuple(item for one in prepared.inputs for item in one.left_out)
    return {tensor: sums[:, order][:, :, order] for tensor, sums in measured.items()}, left_out


def total(sums: Iterable[Float64]) -> Float64:
    """Return the sums of several tensors together, such as those of a layer."""
    summed: Float64 = np.sum(list(sums), axis=0)
    return summed


def _measure(fusion: Fusion, shards: Sequence[Shard], executor: Executor, progress: Progress | None) -> Sides:
    passes = list(measuring_passes(fusion, shards))
    found = measure_all(executor, passes, fusion, progress=progress).measured
    return {tensor: results[_NAME] for (_, tensor), results in found.items()}


def _require_copies(prepared: Prepared) -> None:
    """Refuse a model of another architecture: a tensor that it lacks would count as the base's own."""
    sizes = {name: spec.num_elements for name, spec in prepared.base.schema.items() if spec.is_fused}
    for item in (item for item in prepared.inputs if not item.is_delta):
        own = item.operands
        common = [name for name in sizes if name in own]
        if sum(map(sizes.__getitem__, common)) < _FEWEST * sum(sizes.values()):
            raise SchemaMismatchError(
                f"{item.path}: has {len(common)} of the {len(sizes)} tensors of {prepared.base.folder}; expected a "
                "copy of it whose weights are others"
            )


def _only_read(prepared: Prepared, *, of_all: bool) -> list[Shard]:
    """Return the shards of what is measured, with nothing to be written and without what is no number.

    Args:
        prepared: What is read.
        of_all: True for tensors that all models have; False also for those that some change.
    """

    def pieces(tasks: Sequence[PieceTask]) -> tuple[PieceTask, ...]:
        has = all if of_all else any
        return tuple(task for task in tasks if task.is_fused and has(one is not None for one in task.contributions))

    shards = [
        replace(shard, parts=tuple(replace(p, size_bytes=0, pieces=pieces(p.pieces)) for p in shard.parts))
        for shard in prepared.measured
    ]
    return [shard for shard in shards if any(True for _ in shard.pieces)]


def _of_deltas(block: Block) -> Float64:
    return _sums(block.deltas_CN)


def _of_weights(block: Block) -> Float64:
    return _sums(block.base_N + block.deltas_CN)


def _sums(values_MN: Float64) -> Float64:
    sign_MN = np.sign(values_MN)
    moved_MN = np.abs(sign_MN)
    both_MM = inner_products(moved_MN)
    return np.stack([inner_products(values_MN), (both_MM + inner_products(sign_MN)) / 2, both_MM])
