"""A recipe on arrays in memory: the shortest statement of what the streaming engine must give, and handy for laws.

Everything is one block a tensor, measures are taken over whole tensors, and ranks come from sorting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coldfuse.fusion.block import Block, Float64, Matrix, TensorInfo
from coldfuse.fusion.method import MatrixCombiner, Measure, Ranked, Sums
from coldfuse.fusion.random import key
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.selection import ranks_of_rows

Arrays = Mapping[str, NDArray[np.floating]]


@dataclass(kw_only=True)
class InMemory:
    """Models to be fused by one recipe; ask for `delta`, or for the `state` after the outers as well."""

    recipe: Recipe
    base: Arrays
    deltas: Sequence[Arrays]
    """One mapping a contribution; a tensor that is absent did not change."""
    weights: Sequence[float] | None = None
    statistics: Sequence[Arrays] | None = None
    seed: str = ""
    names: Sequence[str] | None = None
    """What random numbers depend on beside the seed; the contributions' indices by default."""
    tensor_weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Weights by tensor, where they differ from tensor to tensor."""
    own: Mapping[tuple[str, int], Mapping[str, Float64]] = field(default_factory=dict)
    """Values of parameters, one a contribution, where they are not the step's own; by tensor and step."""
    measured: dict[tuple[str, int], dict[str, Float64]] = field(default_factory=dict)
    """By tensor and step."""

    def fuse(self) -> dict[str, Float64]:
        """Return the fused delta of every tensor, before the outers."""
        for index, step in enumerate(self.recipe.steps):
            for measure in step.measures():
                self._measure(measure, index)
        return {name: self._combine(name) for name in self.base}

    def _combine(self, tensor: str) -> Float64:
        combiner, index = self.recipe.combiner, len(self.recipe.transforms)
        block, shape = self._block(tensor, index), self.base[tensor].shape
        if isinstance(combiner, MatrixCombiner) and len(shape) == 2 and min(shape) > 1:
            matrix = Matrix(
                info=block.info,
                read_delta=lambda i: block.deltas_CN[i].reshape(shape).copy(),
                read_statistic=lambda i: None if self.statistics is None else self.statistics[i].get(tensor),
            )
            return np.asarray(combiner.fuse_matrix(matrix))
        return combiner.fuse(block).reshape(shape)

    def _measure(self, measure: Measure, step: int) -> None:
        groups = [list(self.base)] if measure.per == "model" else [[name] for name in self.base]
        for group in groups:
            blocks = (self._block(name, step) for name in group)
            known = {**self.own.get((group[0], step), {}), **self.measured.get((group[0], step), {})}
            result = _sum(measure, blocks) if isinstance(measure, Sums) else _rank(measure, blocks, known)
            for name in group:
                self.measured.setdefault((name, step), {})[measure.name] = result

    def _block(self, tensor: str, step: int) -> Block:
        """Return a tensor as it arrives at a step: after all transforms before it."""
        base = self.base[tensor]
        zeros = np.zeros(base.shape)
        rows = [np.asarray(delta.get(tensor, zeros), np.float64).ravel() for delta in self.deltas]
        block = Block(
            info=self._info(tensor),
            first=0,
            base_N=np.asarray(base, np.float64).ravel(),
            deltas_CN=np.array(rows).reshape(len(rows), base.size),
            statistics_CN=self._statistics(tensor),
        )
        for before, transform in enumerate(self.recipe.transforms[:step]):
            seen = self._seen(block, tensor, before)
            transform.transform(block.deltas_CN, np.arange(len(rows)), seen)
        return self._seen(block, tensor, step)

    def _seen(self, block: Block, tensor: str, step: int) -> Block:
        own, measured = self.own.get((tensor, step), {}), self.measured.get((tensor, step), {})
        return replace(block, info=replace(block.info, own=own, measured=measured))

    def _info(self, tensor: str) -> TensorInfo:
        count = len(self.deltas)
        names = self.names or [str(i) for i in range(count)]
        return TensorInfo(
            tensor=tensor,
            shape=self.base[tensor].shape,
            weights_C=np.array(self.tensor_weights.get(tensor, self.weights or [1.0] * count), np.float64),
            present_C=np.array([tensor in delta for delta in self.deltas]),
            keys_C=np.array([key(self.seed, name, tensor) for name in names if self.recipe.is_random], np.uint64),
            num_elements=self._num_elements,
            informed_C=None if self.statistics is None else np.array([tensor in s for s in self.statistics]),
        )

    @cached_property
    def _num_elements(self) -> int:
        return sum(array.size for array in self.base.values())

    def _statistics(self, tensor: str) -> Float64 | None:
        size = self.base[tensor].size
        found = [s[tensor] for s in self.statistics or () if tensor in s]
        if not found or any(array.size != size for array in found):
            return None
        zeros = np.zeros(size)
        return np.array([np.asarray(s.get(tensor, zeros), np.float64).ravel() for s in self.statistics or ()])


def move_in_memory(
    recipe: Recipe, delta: Float64, state: Mapping[str, Float64], *, age: int = 0
) -> tuple[Float64, dict[str, Float64]]:
    """Take the outers' steps along a fused delta; return what is added to the base, and the state by slot."""
    after = dict(state)
    for outer in recipe.outers:
        slots = tuple(state.get(slot, np.zeros_like(delta)) for slot in outer.slots)
        delta, new = outer.step(delta, slots, age=age)
        after |= dict(zip(outer.slots, new, strict=True))
    return delta, after


def _sum(measure: Sums, blocks: Iterator[Block]) -> Float64:
    total = measure.of(next(blocks))
    for block in blocks:
        total = total + measure.of(block)
    return total


def _rank(measure: Ranked, blocks: Iterator[Block], known: Mapping[str, Float64]) -> Float64:
    values_RN = np.sort(np.abs(np.hstack([measure.of(block) for block in blocks])).astype(np.float32), axis=1)
    rank_RK = ranks_of_rows(len(values_RN), measure.ranks(values_RN.shape[1], known))
    return np.take_along_axis(values_RN, rank_RK, axis=1).astype(np.float64)


def fuse_one(
    recipe: Recipe,
    deltas: Sequence[NDArray[np.floating]],
    *,
    base: NDArray[np.floating] | None = None,
    weights: Sequence[float] | None = None,
    statistics: Sequence[NDArray[np.floating]] | None = None,
    seed: str = "",
) -> Float64:
    """Fuse a model of one tensor; the base is zero unless it is given.

    >>> from coldfuse.fusion.recipe import Recipe
    >>> fuse_one(Recipe(), [np.array([1.0, 2.0]), np.array([3.0, 2.0])])
    array([2., 2.])
    """
    fusion = InMemory(
        recipe=recipe,
        base={"w": np.zeros(deltas[0].shape) if base is None else base},
        deltas=[{"w": delta} for delta in deltas],
        weights=weights,
        statistics=None if statistics is None else [{"w": statistic} for statistic in statistics],
        seed=seed,
    )
    return fusion.fuse()["w"]
