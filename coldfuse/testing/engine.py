"""Laws of how the engine may use a method: in pieces, again and again, with numbers that others still need."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Combiner, MatrixCombiner, Method, Outer, Ranked, Transform
from coldfuse.fusion.methods import Methods
from coldfuse.fusion.recipe import format_recipe, parse_recipe
from coldfuse.testing.trial import (
    SIZES,
    Maker,
    counts_of,
    draw,
    draw_models,
    execute,
    fuse,
    recipe_of,
    require,
    require_finite,
    require_same_bits,
    trials,
)

_CUTS = (0, 1, 2, 5, 9, 33, 75)
"""Where a tensor is cut: before these rows or elements."""
_ROUNDS = 4


def describes_itself(make: Maker) -> None:
    """Help texts and a recipe's line need a summary, a source, and a default and a meaning of each parameter."""
    method = make()
    kind = type(method)
    for word in ("summary", "source"):
        text = getattr(kind, word, "")
        require(bool(text) and "\n" not in text, method, f"expected a {word} of one line, got {text!r}")
    for name, field in kind.model_fields.items():
        require(not field.is_required(), method, f"parameter {name} has no default")
        require(bool(field.description), method, f"parameter {name} has no meaning in the line under it")
    methods = Methods({"mean": Mean, "method": kind})
    line = format_recipe(recipe_of(method), methods)
    read = parse_recipe(line, methods)
    require(method in read.steps, method, f"its line {line!r} is read as {read.steps}")


def does_not_depend_on_the_cut(make: Maker) -> None:
    """A tensor in pieces (of whole rows, where a method asks for those) gives the bits of the tensor at once."""
    method = make()
    for block in _blocks(method):
        _require_the_same_measures(method, block)
        if not _is_fused_whole(method, block):
            pieces = [_apply(method, piece) for piece in _cut(method, block)]
            what = f"{block.info.tensor} in {len(pieces)} pieces gives another result than at once"
            require_same_bits(method, np.hstack(pieces), _apply(method, block), what)


def leaves_its_arguments_alone(make: Maker) -> None:
    """Base, deltas and statistics are as they were, and so are weights and whatever else is known."""
    method = make()
    models = draw_models(method, counts_of(method)[-1])
    before = [array.tobytes() for array in models.arrays()]
    fuse(method, models)
    require([array.tobytes() for array in models.arrays()] == before, method, "the caller's arrays have changed")
    for block in _blocks(method):
        original = deepcopy(_given(block))
        if not _is_fused_whole(method, block):
            _apply(method, block)
        same = all(now.tobytes() == then.tobytes() for now, then in zip(_given(block), original, strict=True))
        what = f"{block.info.tensor}: what a block says of base, statistics, weights or measures has changed"
        require(same, method, what)


def a_transform_changes_its_own_contribution(make: Maker) -> None:
    """A transform changes one contribution's delta, by that alone and by what was measured."""
    method = make()
    if not isinstance(method, Transform):
        return
    for block in _blocks(method):
        name, hidden = block.info.tensor, replace(block, deltas_CN=np.full_like(block.deltas_CN, np.nan))
        together_CN = block.deltas_CN.copy()
        method.transform(together_CN, np.arange(len(together_CN)), replace(block, deltas_CN=together_CN))
        for i, delta_N in enumerate(block.deltas_CN):
            alone_1N = delta_N[None].copy()
            method.transform(alone_1N, np.array([i]), hidden)
            what = f"{name}: contribution {i} depends on which others are transformed with it"
            require_same_bits(method, alone_1N[0], together_CN[i], what)
            rows_CN = block.deltas_CN.copy()
            method.transform(rows_CN[i : i + 1], np.array([i]), replace(block, deltas_CN=rows_CN))
            others = [n for n in range(len(rows_CN)) if n != i]
            what = f"{name}: contribution {i}'s turn changes another"
            require_same_bits(method, rows_CN[others], block.deltas_CN[others], what)


def an_outer_step_rests_at_rest(make: Maker) -> None:
    """Outer steps: zero deltas never move the base; states keep their shapes, and stay finite in float32."""
    method = make()
    if not isinstance(method, Outer):
        return
    require(len(set(method.slots)) == len(method.slots), method, f"slots {method.slots} are not all different")
    for size in SIZES:
        for step in _walk(method, [np.zeros(size)] * _ROUNDS):
            require(not step.any(), method, f"moves {size} elements although every delta is zero")
        for scale in (1.0, 1e-6, 1e-42):
            deltas = [draw((size,), f"round {age}", scale) for age in range(_ROUNDS)]
            for step in _walk(method, deltas):
                require_finite(method, {"the step": step}, f"for {size} elements of size {scale}")


def _walk(method: Outer, deltas: list[Float64]) -> Iterator[Float64]:
    """Yield the steps of some rounds, from a state of zeros; a state is kept in float32 between rounds."""
    state = tuple(np.zeros_like(deltas[0]) for _ in method.slots)
    for age, delta_N in enumerate(deltas):
        before = deepcopy((delta_N, *state))
        step_N, new = method.step(delta_N, state, age=age)
        for now, then in zip((delta_N, *state), before, strict=True):
            require_same_bits(method, now, then, "a step has changed the delta or the state that it was given")
        shapes = [part.shape for part in (step_N, *new)]
        require(shapes == [delta_N.shape] * (1 + len(method.slots)), method, f"a step returns the shapes {shapes}")
        state = tuple(part.astype(np.float32).astype(np.float64) for part in new)
        require_finite(method, dict(zip(method.slots, state, strict=True)), f"after {age + 1} rounds")
        yield step_N


def _blocks(method: Method) -> Iterator[Block]:
    """Yield whole tensors as they come to the method, with all that it measures."""
    for models in trials(method):
        fusion = execute(method, models)
        fusion.fuse()
        for name in fusion.base:
            yield fusion._block(name, 1 if isinstance(method, Outer) else 0)


def _is_fused_whole(method: Method, block: Block) -> bool:
    shape = block.info.shape
    return isinstance(method, MatrixCombiner) and len(shape) == 2 and min(shape) > 1


def _apply(method: Method, block: Block) -> Float64:
    """Return what the method makes of a block, flat; the block's deltas may be used up."""
    match method:
        case Transform():
            method.transform(block.deltas_CN, np.arange(len(block.deltas_CN)), block)
            return block.deltas_CN
        case Combiner():
            return method.fuse(block)
        case Outer():
            return np.vstack([*_walk(method, [block.deltas_CN[0]] * _ROUNDS)])
    return block.deltas_CN


def _cut(method: Method, block: Block) -> Iterator[Block]:
    unit = block.info.row_elements if method.whole_rows else 1
    size = len(block.base_N)
    starts = [unit * cut for cut in _CUTS if unit * cut < size]
    for first, last in pairwise([*starts, size]):
        run = slice(first, last)
        yield replace(
            block,
            first=first,
            base_N=block.base_N[run].copy(),
            deltas_CN=block.deltas_CN[:, run].copy(),
            statistics_CN=None if block.statistics_CN is None else block.statistics_CN[:, run].copy(),
        )


def _require_the_same_measures(method: Method, block: Block) -> None:
    for measure in method.measures():
        whole = measure.of(block)
        pieces = [measure.of(piece) for piece in _cut(method, block)]
        what = f"{block.info.tensor}: measure {measure.name!r} of {len(pieces)} pieces is not that of the whole"
        if isinstance(measure, Ranked):
            require_same_bits(method, np.hstack(pieces), whole, what)
        else:
            error, largest = np.abs(sum(pieces) - whole).max(), np.abs(whole).max()
            require(bool(error <= 1e-12 * largest), method, what)


def _given(block: Block) -> list[NDArray[np.generic]]:
    info, statistics = block.info, block.statistics_CN
    known = [info.weights_C, info.present_C, info.keys_C, *info.measured.values()]
    return [block.base_N, *known, *([] if statistics is None else [statistics])]
