"""Searches that fuse and score candidates: greedy soups, and grids over one parameter of a recipe.

A grid is `--tune scale=0.1:1.0:0.1` or `--tune ties.density=0.1,0.2,0.5`. Task arithmetic, TIES and most of what scales
a sum of deltas want their scale found on held-out data; with `interpolate` as the last step the grid over `alpha` is
the curve of WiSE-FT (arXiv 2109.01903) and PAINT (arXiv 2208.05592).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from pydantic import ValidationError

from coldfuse.engine.execution import Executor
from coldfuse.engine.folder_fusion import FolderFusion
from coldfuse.engine.recipes import known_methods
from coldfuse.errors import UserInputError
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.method import Method
from coldfuse.fusion.recipe import Recipe, arrange, parameter_of
from coldfuse.search.methods import GreedySoup, Search
from coldfuse.search.trials import Found, Trial, Trials, fusing_order

if TYPE_CHECKING:
    from coldfuse.evaluation.probe import Scorer

_MOST_VALUES = 1000


def greedy_soup(
    request: FolderFusion, score: Scorer, executor: Executor, *, callback: Callable[[Trial], None] | None = None
) -> Found:
    """Find the models whose mean scores best, adding one after the other in the order of their own scores.

    The result does not depend on the order of the models: equal scores are taken in the order of the contents.

    Args:
        request: What is fused, and where to.
        score: How good a model folder is; higher is better.
        executor: Runs the fusions.
        callback: Called with each trial as it ends.
    """
    rule = request.recipe.combiner
    at_least = isinstance(rule, GreedySoup) and rule.keep == "equal"
    plain = replace(request, recipe=replace(request.recipe, combiner=Mean()))

    def among(indices: Sequence[int]) -> FolderFusion:
        return replace(plain, models=[plain.models[index] for index in indices])

    soup: list[int] = []
    best = -math.inf
    with Trials(request.out, executor, callback) as trials:
        order = fusing_order(request)
        alone = {index: trials.score(among([index]), score) for index in order}
        for index in sorted(order, key=lambda index: -alone[index]):  # a stable sort
            reached = trials.score(among([*soup, index]), score) if soup else alone[index]
            kept = reached > best or (at_least and reached == best)
            if kept:
                soup, best = [*soup, index], reached
            trials.add(str(request.models[index]), reached, kept=kept)
    weights = tuple(1 / len(soup) if index in soup else 0.0 for index in range(len(order)))
    return Found(request=among(soup), weights=weights, score=best, trace=tuple(trials.trace))


def tune(
    request: FolderFusion,
    key: str,
    values: Sequence[str],
    score: Scorer,
    executor: Executor,
    *,
    callback: Callable[[Trial], None] | None = None,
) -> Found:
    """Find the value of a parameter whose fused model scores best; of equal ones, the smallest.

    Args:
        request: What is fused, and where to.
        key: A parameter's name, or `step.name` where several steps have one of that name.
        values: What is tried; numbers from the smallest on, other words in their order.
        score: How good a model folder is; higher is better.
        executor: Runs the fusions.
        callback: Called with each trial as it ends.

    Raises:
        UserInputError: No step, or more than one, has such a parameter, or it cannot have one of the values.
    """
    recipes = {value: with_value(request.recipe, key, value) for value in _in_order(values)}  # all are checked first
    best, chosen = -math.inf, request.recipe
    with Trials(request.out, executor, callback) as trials:
        for value, recipe in recipes.items():
            reached = trials.score(replace(request, recipe=recipe), score)
            trials.add(f"{key}={value}", reached, kept=reached > best)
            if reached > best:
                best, chosen = reached, recipe
    weights = tuple(request.weights or [1.0] * len(request.models))
    return Found(request=replace(request, recipe=chosen), weights=weights, score=best, trace=tuple(trials.trace))


def parse_grid(text: str) -> tuple[str, list[str]]:
    """Read `KEY=START:STOP:STEP`, both ends included, or `KEY=a,b,c`.

    >>> parse_grid("scale=0:1:0.25"), parse_grid("ties.variant=paper,mergekit")
    (('scale', ['0', '0.25', '0.5', '0.75', '1']), ('ties.variant', ['paper', 'mergekit']))
    """
    key, equals, rest = (part.strip() for part in text.partition("="))
    if not (key and equals and rest):
        raise UserInputError(f"--tune {text}: expected KEY=START:STOP:STEP or KEY=a,b,c, such as scale=0.1:1.0:0.1")
    if ":" in rest:
        return key, _range(text, rest)
    return key, [value for part in rest.split(",") if (value := part.strip())]


def with_value(recipe: Recipe, key: str, value: str) -> Recipe:
    """Return the recipe with one parameter set. Raises `UserInputError` if no step, or more than one, has it."""
    if isinstance(recipe.combiner, Search):
        raise UserInputError(f"{key}: a search cannot be tuned by another; tune a method that has a formula")
    step_name, _, field = key.rpartition(".")
    steps = list(recipe.steps)
    places = [
        index
        for index, step in enumerate(steps)
        if parameter_of(type(step), field) in type(step).model_fields and step_name in ("", _name(step))
    ]
    if len(places) != 1:
        raise UserInputError(f"{key}: {_wrong_place(steps, field, num_places=len(places))}")
    steps[places[0]] = _changed(steps[places[0]], field, value)
    return arrange(steps, key)


def _name(step: Method) -> str:
    return known_methods().name_of(type(step))


def _changed(step: Method, field: str, value: str) -> Method:
    try:
        return type(step).model_validate({**step.model_dump(), parameter_of(type(step), field): value})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserInputError(f"{_name(step)}: {field}={value}: {first['msg']}") from error


def _wrong_place(steps: Sequence[Method], field: str, *, num_places: int) -> str:
    if num_places:
        having = [step for step in steps if parameter_of(type(step), field) in type(step).model_fields]
        which = " or ".join(f"{_name(step)}.{field}" for step in having)
        return f"several steps have such a parameter; name one of them, {which}, and each method once"
    known = [f"{_name(step)}.{name}" for step in steps for name in type(step).model_fields]
    return f"no step has such a parameter; known are {', '.join(known) or 'none'}"


def _range(text: str, rest: str) -> list[str]:
    """Count in decimals: 0.1 + 0.2 is 0.3."""
    try:
        start, stop, step = (Decimal(part.strip()) for part in rest.split(":"))
        count = int((stop - start) / step) + 1 if step > 0 else 0
    except (ValueError, InvalidOperation, OverflowError) as error:
        raise UserInputError(f"--tune {text}: expected three numbers, START:STOP:STEP") from error
    if not 0 < count <= _MOST_VALUES:
        raise UserInputError(
            f"--tune {text}: expected STOP of at least START, a STEP above 0, and at most {_MOST_VALUES} values"
        )
    return [format((start + step * index).normalize(), "f") for index in range(count)]


def _in_order(values: Sequence[str]) -> list[str]:
    if not values:
        raise UserInputError("--tune: expected one value or more, and there is none")
    try:
        numbers = {value: float(value) for value in values}
    except ValueError:
        return list(dict.fromkeys(values))
    return sorted(numbers, key=numbers.__getitem__)
