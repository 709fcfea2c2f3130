"""Small models to try a fusion method on, drawn from nothing but a seed, and what the laws need to judge the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from coldfuse.errors import ColdfuseError, FusionError
from coldfuse.fusion.block import Float64
from coldfuse.fusion.in_memory import InMemory, move_in_memory
from coldfuse.fusion.method import Combiner, MatrixCombiner, Method, Statistic
from coldfuse.fusion.random import key, uniform
from coldfuse.fusion.recipe import Recipe, arrange

Maker = Callable[[], Method]
"""A method's class, or anything else that makes the method: `partial(Ties, density=0.5)`."""

Tensors = Mapping[str, Float64]
Shapes = Mapping[str, tuple[int, ...]]

SIZES = (1, 2, 7, 64, 99, 100)
SHAPES: Shapes = {
    "number": (), "wide": (3, 5), "tall": (5, 3), "square": (8, 8), "row": (1, 4), "column": (5, 1), "box": (2, 3, 4),
    "long": (1300,), **{f"size_{size}": (size,) for size in SIZES},
}  # fmt: skip
"""Tensors of many shapes; `long` is more than compiled loops take at a time."""
COUNTS = (1, 2, 3, 5, 7)
"""Numbers of contributions that are tried."""
SEEDS = ("0", "1")
SCALES = (1.0, 1e-6, 1e-42, 1e30)
"""Sizes of deltas: as fine-tuning makes them or larger, small ones, subnormal ones of float32, and absurd ones."""

_FEWEST_WORDS = 5


class LawBrokenError(ColdfuseError):
    """A fusion method does not do what every one (or one of its sort) has to; the message says where."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """A base and contributions: what is fused, beside the recipe."""

    base: Tensors
    deltas: tuple[Tensors, ...]
    weights: tuple[float, ...]
    statistics: tuple[Tensors, ...] | None
    names: tuple[str, ...]

    def chosen(self, indices: Iterable[int]) -> Models:
        """Return some of the contributions, in this order."""
        order = list(indices)
        return replace(
            self,
            deltas=tuple(self.deltas[i] for i in order),
            weights=tuple(self.weights[i] for i in order),
            statistics=None if self.statistics is None else tuple(self.statistics[i] for i in order),
            names=tuple(self.names[i] for i in order),
        )

    def scaled(self, factor: float) -> Models:
        """Return models that are as much larger, the base included."""
        return replace(self, base=_times(self.base, factor), deltas=tuple(_times(d, factor) for d in self.deltas))

    def arrays(self) -> Iterator[Float64]:
        """Yield all arrays."""
        for tensors in (self.base, *self.deltas, *(self.statistics or ())):
            yield from tensors.values()


def draw(shape: tuple[int, ...], seed: str, scale: float = 1.0) -> Float64:
    """Draw numbers around 0, about a normal distribution's; deltas have no more digits than float32."""
    return _drawn(shape, seed, scale).copy()


@lru_cache(maxsize=4096)  # the laws draw the same models again and again
def _drawn(shape: tuple[int, ...], seed: str, scale: float) -> Float64:
    size = math.prod(shape)
    sum_N = sum(uniform(key(seed, str(turn), "law"), 0, size) for turn in range(3)) - np.full(size, 1.5)
    return np.asarray(sum_N * 2 * scale, np.float32).astype(np.float64).reshape(shape)


def draw_models(
    method: Method, count: int, shapes: Shapes = SHAPES, *, seed: str = "0", scale: float = 1.0, coarse: bool = False
) -> Models:
    """Draw a base and contributions as the method wants them. `coarse`: of few values, so with many ties and zeros."""
    deltas = [{n: draw(shape, f"{seed}/{i}/{n}", scale) for n, shape in shapes.items()} for i in range(count)]
    if coarse:
        deltas = [{n: np.round(delta / scale) * scale for n, delta in tensors.items()} for tensors in deltas]
    return Models(
        base={name: draw(shape, f"{seed}/base/{name}") for name, shape in shapes.items()},
        deltas=tuple(deltas),
        weights=_weights(method, count),
        statistics=_statistics(method.statistic, count, shapes, seed),
        names=tuple(f"contribution {i}" for i in range(count)),
    )


def execute(method: Method, models: Models) -> InMemory:
    """Return a fusion by this method alone (and the mean, if it does not combine), before it has begun."""
    return InMemory(
        recipe=recipe_of(method),
        base=models.base,
        deltas=models.deltas,
        weights=models.weights,
        statistics=models.statistics,
        seed="law",
        names=models.names,
    )


def recipe_of(method: Method) -> Recipe:
    """Return the recipe of one step."""
    return arrange([method], repr(method))


def fuse(method: Method, models: Models) -> dict[str, Float64]:
    """Return what is added to the base, in a first round."""
    recipe = recipe_of(method)
    moved = {
        name: move_in_memory(recipe, delta.ravel(), {})[0].reshape(delta.shape)
        for name, delta in execute(method, models).fuse().items()
    }
    for name, delta in moved.items():
        require(delta.shape == models.base[name].shape, method, f"{name}: shape {models.base[name].shape} is not kept")
        require(delta.dtype == np.float64, method, f"{name}: expected float64, got {delta.dtype}")
    return moved


def counts_of(method: Method) -> tuple[int, ...]:
    """Return the numbers of contributions that the method takes, of those that are tried."""
    refusals: list[FusionError] = []
    found = []
    for count in COUNTS:
        try:
            fuse(method, draw_models(method, count, {"w": (7,)}))
            found.append(count)
        except FusionError as error:
            require_sentence(method, error)
            refusals.append(error)
    require(bool(found), method, f"takes none of {COUNTS} contributions: {refusals[-1] if refusals else ''}")
    return tuple(found)


def trials(method: Method, *, scale: float = 1.0) -> Iterator[Models]:
    """Yield models of as many contributions as the method takes, and of fewer."""
    for count in counts_of(method)[-2:]:
        for seed in SEEDS:
            yield draw_models(method, count, seed=seed, scale=scale)


def require(holds: bool, method: Method, message: str) -> None:
    """Raise `LawBrokenError` if a law does not hold."""
    if not holds:
        raise LawBrokenError(f"{method!r}: {message}")


def require_sentence(method: Method, error: FusionError) -> None:
    """Require of a refusal that a person understands it."""
    require(
        len(str(error).split()) >= _FEWEST_WORDS,
        method,
        f"refuses by {str(error)!r}; expected a sentence that says what was expected, what came, and what to do",
    )


def require_finite(method: Method, fused: Tensors, when: str) -> None:
    """Require numbers."""
    for name, delta in fused.items():
        require(bool(np.isfinite(delta).all()), method, f"{name} is not finite {when}")


def require_same_bits(method: Method, got: Float64, expected: Float64, what: str) -> None:
    """Require the same array, to the bit."""
    require(got.shape == expected.shape and got.tobytes() == expected.tobytes(), method, what)


def require_close(method: Method, got: Tensors, expected: Tensors, models: Models, what: str) -> None:
    """Require the same tensors up to rounding: that of sums, or that of a linear algebra library."""
    tolerance = 1e-7 if isinstance(method, MatrixCombiner) else 1e-12
    for name, want in expected.items():
        largest = max(float(np.abs(array).max()) for array in (want, *(d[name] for d in models.deltas)))
        error = float(np.abs(got[name] - want).max())
        require(
            error <= tolerance * largest,
            method,
            f"{what}; {name} differs by {error:.1e}, {tolerance:.0e} of {largest:.1e} would be rounding",
        )


def _weights(method: Method, count: int) -> tuple[float, ...]:
    if not isinstance(method, Combiner):
        return (1.0,) * count
    positional = method.positional_weights(count)
    if positional is not None:
        return positional
    return tuple(1.0 + math.sqrt(i) if method.is_weighted else 1.0 for i in range(count))


def _statistics(kind: Statistic | None, count: int, shapes: Shapes, seed: str) -> tuple[Tensors, ...] | None:
    """Draw what each contribution brings beside its delta: positive numbers, or positive definite matrices."""
    if kind is None:
        return None
    if kind == "gram":
        linear = {name: shape[1] for name, shape in shapes.items() if len(shape) == 2}
        return tuple({n: _gram(size, f"{seed}/gram/{i}/{n}") for n, size in linear.items()} for i in range(count))
    return tuple(
        {name: draw(shape, f"{seed}/{kind}/{i}/{name}") ** 4 + 1e-6 for name, shape in shapes.items()}
        for i in range(count)
    )


def _gram(size: int, seed: str) -> Float64:
    inputs_TI = draw((size + 5, size), seed)
    gram_II: Float64 = inputs_TI.T @ inputs_TI / len(inputs_TI)
    return gram_II


def _times(tensors: Tensors, factor: float) -> Tensors:
    return {name: array * factor for name, array in tensors.items()}
