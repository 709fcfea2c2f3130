"""How much of each contribution is in a fused model: coefficients c_i with Δ ≈ Σ_i c_i δ_i.

Where the recipe is a linear combination they are its own. For others, they are those that come closest, by least
squares over the elements of a tensor or of the model:

    minimise ‖Δ − Σ_i c_i δ_i‖²      G c = b      G_ij = ⟨δ_i, δ_j⟩      b_i = ⟨δ_i, Δ⟩
    R² = 1 − ‖Δ − Σ_i c_i δ_i‖² / ‖Δ‖²

with Δ = fused − base as it was written, and δ_i as given. G and b take one more pass. Of deltas that depend on each
other (a model given twice) the pseudo-inverse takes equal shares.

Letters: C contributions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from coldfuse.adapters.adapter import Adapter
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.engine.execution import Executor
from coldfuse.engine.fuse import Prepared
from coldfuse.engine.inputs import open_input
from coldfuse.engine.job import Fusion, require_memory
from coldfuse.engine.measuring import measure_all
from coldfuse.engine.operands import AdapterOperand, AnyOperand, Operand, Operands
from coldfuse.engine.passes import Pass, Progress, measuring_passes
from coldfuse.engine.plan import PieceTask, Shard
from coldfuse.engine.ranges import info_of
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.block import Float64
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import LinearCombiner, Measure
from coldfuse.fusion.recipe import Recipe

_NAME = "coefficients"

_DEPENDENT = 1e-10
"""Smallest eigenvalue, as a part of the largest, of the Gram matrix (with ones on its diagonal) of deltas that count as
independent: below it lies the matrix's own error."""


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """What a fused delta is made of."""

    is_exact: bool
    """True if the coefficients are the recipe's own; False if they were found by least squares."""
    contributions: tuple[float | None, ...]
    """Each contribution's coefficient c_i, in fusing order; None where it does not change the tensor."""
    base: float = 0.0
    """Coefficient of θ_t that is added to the deltas; 0 by least squares."""
    explained: float | None = None
    """R², the share of ‖Δ‖² that the coefficients explain; None where they are exact, or Δ is zero."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a fused model is made of."""

    overall: Coefficients
    """Coefficients of the whole model."""
    tensors: Mapping[str, Coefficients]
    """Coefficients of each tensor that may have changed, in the order of the base's files."""


class _Products(Mean):
    """A combiner for its measure: the inner products of all deltas, the last of which is the fused one."""

    summary = "inner products of the contributions' deltas and the fused delta"
    source = "the normal equations of least squares"

    def measures(self) -> tuple[Measure, ...]:
        """Measure [[G, b], [bᵀ, ‖Δ‖²]] of each tensor."""
        return (replace(gram("tensor"), name=_NAME),)


def explain(
    prepared: Prepared, fusion: Fusion, out: Path, executor: Executor, *, progress: Progress | None = None
) -> Explanation:
    """Say what a fused model is made of; takes one more pass, unless the whole model has exact coefficients.

    Args:
        prepared: The fusion that was run.
        fusion: The same with all that was measured (`Fused.fusion`).
        out: What was made: a model, a delta or an adapter.
        executor: Runs the tasks.
        progress: Called as the pass begins and shards are done.

    Raises:
        UserInputError: What was made cannot be read.
    """
    exact = _exact(fusion, prepared.measured) if is_linear(fusion) else None
    common = _common(list(exact.values()), len(prepared.inputs)) if exact is not None else None
    if exact is not None and common is not None:
        return Explanation(overall=common, tensors=exact)
    products = _products(prepared, out, executor, progress)
    tensors = {tensor: _fit(product) for tensor, product in products.items()} if exact is None else exact
    count = len(prepared.inputs) + 1
    return Explanation(overall=_fit(sum(products.values(), np.zeros((count, count)))), tensors=tensors)


def is_linear(fusion: Fusion) -> bool:
    """Tell whether the result is a linear combination of the contributions as they are given."""
    return fusion.sums_deltas and not fusion.recipe.transforms and fusion.recipe.factor is not None


def explaining_pass(prepared: Prepared) -> Pass:
    """Return the pass that measures the inner products, to be counted before anything is made."""
    fusion, shards = _probe(prepared, None)
    return Pass(kind="sum", fusion=fusion, shards=shards)


def require_memory_to_explain(prepared: Prepared, executor: Executor) -> None:
    """Raise `UserInputError` if explaining would take more memory than a worker may; to ask before fusing."""
    fusion, shards = _probe(prepared, None)
    require_memory(fusion, {"": shards}, executor.task_bytes)


def _exact(fusion: Fusion, shards: Sequence[Shard]) -> dict[str, Coefficients]:
    """Return each tensor's own coefficients."""
    pieces = {piece.tensor: piece for shard in shards for piece in shard.pieces if piece.is_fused}
    return {tensor: _combination_of(fusion, piece) for tensor, piece in pieces.items() if any(piece.contributions)}


def _combination_of(fusion: Fusion, piece: PieceTask) -> Coefficients:
    combination = cast(LinearCombiner, fusion.recipe.combiner).combination(info_of(fusion, piece, 0))
    factor = cast(float, fusion.recipe.factor) / combination.divisor
    shares = zip(combination.deltas_C, piece.contributions, strict=True)
    own = tuple(None if operand is None else float(c) * factor for c, operand in shares)
    return Coefficients(is_exact=True, contributions=own, base=combination.base * factor)


def _common(tensors: Sequence[Coefficients], count: int) -> Coefficients | None:
    """Return the coefficients that all tensors share, where a contribution changes them; None: they differ."""
    found = [{one.contributions[i] for one in tensors} - {None} for i in range(count)]
    bases = {one.base for one in tensors} or {0.0}
    if len(bases) > 1 or any(len(values) > 1 for values in found):
        return None
    own = tuple(next(iter(values), None) for values in found)
    return Coefficients(is_exact=True, contributions=own, base=bases.pop())


def _products(prepared: Prepared, out: Path, executor: Executor, progress: Progress | None) -> dict[str, Float64]:
    """Measure [[G, b], [bᵀ, ‖Δ‖²]] of each tensor that may have moved, in one pass."""
    made = open_input(prepared.base, out, 1.0, tied={})
    fusion, shards = _probe(prepared, made.operands)
    measured = measure_all(executor, list(measuring_passes(fusion, shards)), fusion, progress=progress).measured
    return {tensor: results[_NAME] for (_, tensor), results in measured.items()}


def _probe(prepared: Prepared, made: Operands | Adapter | None) -> tuple[Fusion, list[Shard]]:
    """Return a fusion that only measures, of the same contributions and of what was made (None: the base) as one more.

    Tensors that cannot have changed are left out.
    """
    old = prepared.fusion
    fusion = replace(
        old,
        recipe=Recipe(combiner=_Products()),
        weights=(*old.weights, 1.0),
        names=(*old.names, "fused"),
        tensor_weights={},
        own={},
        measured={},
        slots=(),
    )

    def pieces(tasks: Sequence[PieceTask]) -> tuple[PieceTask, ...]:
        return tuple(
            replace(task, contributions=(*task.contributions, _made(made, task)), statistics=(), state=())
            for task in tasks
            if task.is_fused and (any(task.contributions) or old.recipe.slots)
        )

    def only_read(shard: Shard) -> Shard:
        return replace(shard, parts=tuple(replace(p, size_bytes=0, pieces=pieces(p.pieces)) for p in shard.parts))

    return fusion, [shard for shard in map(only_read, prepared.measured) if any(True for _ in shard.pieces)]


def _made(source: Operands | Adapter | None, piece: PieceTask) -> AnyOperand | None:
    """Find a piece's elements in what was made, which may be a model, a delta or an adapter."""
    if source is None:
        return piece.base
    if isinstance(source, Adapter):
        change = source.tensors.get(piece.tensor)
        return AdapterOperand(what=source.what, change=change) if change else None
    if piece.tensor not in source.tensors:
        return None
    file, entry = source.tensors[piece.tensor]
    item = ITEM_BYTES[entry.spec.dtype]
    where = file.file.range(entry.start + piece.first * item, piece.num_elements * item)
    return Operand(where=where, first=piece.first, dtype=entry.spec.dtype, is_delta=source.is_delta)


def _fit(products: Float64) -> Coefficients:
    """Solve for the coefficients, with each delta scaled to length 1: a short one is no less independent."""
    gram_CC, products_C, squared = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    length_C = np.sqrt(np.diag(gram_CC))
    moved = np.flatnonzero((length_C > 0) & np.isfinite(length_C))
    length_M = length_C[moved]
    cosines_MM = gram_CC[np.ix_(moved, moved)] / length_M / length_M[:, None]
    own_M = np.linalg.pinv(cosines_MM, rcond=_DEPENDENT, hermitian=True) @ (products_C[moved] / length_M) / length_M
    found: list[float | None] = [None] * len(length_C)
    for index, value in zip(moved, own_M, strict=True):
        found[index] = float(value)
    left = 2 * own_M @ products_C[moved] - own_M @ gram_CC[np.ix_(moved, moved)] @ own_M
    share = float(np.clip(left / squared, 0, 1)) if squared > 0 else None
    return Coefficients(is_exact=False, contributions=tuple(found), explained=share)
