"""From what people say of weights and parameters to numbers: one for each tensor and contribution.

What is the same everywhere goes into the recipe and its weights; only what differs becomes a table, which tasks look up
by the tensor's name. So a setting that says one number gives the same bytes as the number in the recipe itself.

Letters: C contributions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import ValidationError

from coldfuse.engine.inputs import Input
from coldfuse.engine.job import Fusion, Measured
from coldfuse.engine.recipes import known_methods
from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import Method
from coldfuse.fusion.recipe import Recipe, arrange, format_recipe, parameter_of
from coldfuse.fusion.settings import WEIGHT, Layer, Settings, layers_of

Rows = Mapping[str, tuple[float, ...]]
"""One number a contribution, by tensor."""

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Settings as numbers."""

    recipe: Recipe
    """The recipe, with what is the same everywhere. A parameter that differs has one of its values here, with which the
    step measures all that it has to."""
    weights: tuple[float, ...]
    """Weight of each contribution; 1 where they differ from tensor to tensor."""
    tensor_weights: Rows = field(default_factory=dict)
    """Weights by tensor, where they differ from tensor to tensor."""
    own: Measured = field(default_factory=dict)
    """What differs, as `Fusion.own` has it."""


@dataclass(frozen=True)
class _Asked:
    """What is asked for: the inputs in fusing order, and the tensors that are fused with the layers they belong to."""

    inputs: Sequence[Input]
    shared: Settings
    layers: Mapping[str, Layer | None]

    def rows(self, name: str, otherwise: Sequence[float | None]) -> dict[str, tuple[float | None, ...]]:
        """Return what a setting is in each tensor for each contribution; `otherwise` where nothing is said."""
        return {
            tensor: tuple(
                next((v for s in (item.settings, self.shared) if (v := _at(s, name, tensor, layer)) is not None), rest)
                for item, rest in zip(self.inputs, otherwise, strict=True)
            )
            for tensor, layer in self.layers.items()
        }

    @property
    def names(self) -> list[str]:
        """Names of all parameters that are set."""
        said = [item.settings for item in self.inputs] + [self.shared]
        return [name for name in dict.fromkeys(name for settings in said for name in settings) if name != WEIGHT]

    def says(self, name: str) -> bool:
        """Tell whether anybody says something of a setting."""
        return name in self.shared or any(name in item.settings for item in self.inputs)


def resolve(recipe: Recipe, inputs: Sequence[Input], shared: Settings, tensors: Sequence[str]) -> Resolved:
    """Say what each setting is in each tensor for each contribution.

    Args:
        recipe: What is done with the contributions.
        inputs: The contributions with their settings, in fusing order.
        shared: What holds where a contribution's settings say nothing.
        tensors: Names of all tensors that are fused, tied ones once.

    Raises:
        UserInputError: A setting names nothing that there is, lacks a number, has one that its step refuses, or differs
            where the step's formula has one number.
    """
    weights = tuple(item.weight for item in inputs)
    if not tensors or not (shared or any(item.settings for item in inputs)):
        return Resolved(recipe=recipe, weights=weights)
    asked = _Asked(inputs, shared, layers_of(tensors))
    for what, settings in (*((str(item.path), item.settings) for item in inputs), ("parameters", shared)):
        _require_matched(settings, tensors, what)
    found = Resolved(recipe=recipe, weights=weights)
    if asked.says(WEIGHT):
        found = _weigh(found, asked)
    by_step: dict[int, dict[str, str]] = {}
    for name in asked.names:
        index, parameter = place_of(recipe, name)
        if parameter in by_step.setdefault(index, {}):
            raise UserInputError(f"{name}: {by_step[index][parameter]} says the same; give one of them")
        by_step[index][parameter] = name
    for index, names in by_step.items():
        found = _set_step(found, index, names, asked)
    return found


def place_of(recipe: Recipe, name: str) -> tuple[int, str]:
    """Return the step that a setting is for, by its index, and its parameter: `density`, or `ties.density`.

    Raises:
        UserInputError: No step has such a parameter, or several have.
    """
    step_name, _, key = name.rpartition(".")
    steps = [(index, step, known_methods().name_of(type(step))) for index, step in enumerate(recipe.steps)]
    having = [
        (i, own, known) for i, step, known in steps if (own := _parameter(step, key)) and step_name in ("", known)
    ]
    if len(having) == 1:
        return having[0][0], having[0][1]
    if having:
        which = " or ".join(f"{known}.{key}" for _, _, known in having)
        raise UserInputError(f"{name}: several steps have such a parameter; say which: {which}")
    known_names = ["weight", *(f"{known}.{own}" for _, step, known in steps for own in type(step).model_fields)]
    raise UserInputError(f"{name}: no step of the method has such a parameter; known are {', '.join(known_names)}")


def described(fusion: Fusion) -> str:
    """Write a fusion's recipe with every parameter; what differs between tensors or contributions says so."""
    varying: dict[int, set[str]] = {}
    for (step, _), own in fusion.own.items():
        varying.setdefault(step, set()).update(own)
    return format_recipe(fusion.recipe, known_methods(), varying=varying)


def settings_of(fusion: Fusion) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return what was used, as a weights file says it: each contribution's settings, and the shared ones.

    A number where it is the same in all tensors, or else a table of them.
    """
    numbers = range(fusion.num_contributions)
    each: list[dict[str, object]] = [{} for _ in numbers]
    for i in numbers:
        table = {tensor: row[i] for tensor, row in fusion.tensor_weights.items()}
        each[i][WEIGHT] = _number_or_table(table) if table else fusion.weights[i]
    shared: dict[str, object] = {}
    for index, parameter, rows in _own_tables(fusion):
        name = _shortest_name(fusion.recipe, index, parameter)
        if "contribution" not in fusion.recipe.steps[index].varying()[parameter]:
            shared[name] = _number_or_table({tensor: float(row_C[0]) for tensor, row_C in rows.items()})
            continue
        for i in numbers:
            each[i][name] = _number_or_table({tensor: float(row_C[i]) for tensor, row_C in rows.items()})
    return each, shared


def _own_tables(fusion: Fusion) -> Iterator[tuple[int, str, dict[str, Float64]]]:
    """Yield each parameter that differs: its step, its name, and its values by tensor ("" for all)."""
    tables: dict[tuple[int, str], dict[str, Float64]] = {}
    for (index, tensor), own in fusion.own.items():
        for parameter, values_C in own.items():
            tables.setdefault((index, parameter), {})[tensor] = values_C
    yield from ((index, parameter, rows) for (index, parameter), rows in tables.items())


def _number_or_table(table: dict[str, float]) -> float | dict[str, float]:
    values = set(table.values())
    return values.pop() if len(values) == 1 else table


def _shortest_name(recipe: Recipe, index: int, parameter: str) -> str:
    having = [step for step in recipe.steps if _parameter(step, parameter)]
    return parameter if len(having) == 1 else f"{known_methods().name_of(type(recipe.steps[index]))}.{parameter}"


def _parameter(step: Method, key: str) -> str | None:
    """Return a step's parameter that a setting stands for: a density is what dare does not drop."""
    fields = type(step).model_fields
    own = "drop" if key == "density" and key not in fields else parameter_of(type(step), key)
    return own if own in fields else None


def _at(settings: Settings, name: str, tensor: str, layer: Layer | None) -> float | None:
    return settings[name].at(tensor, layer) if name in settings else None


def _require_matched(settings: Settings, tensors: Sequence[str], what: str) -> None:
    for name, setting in settings.items():
        if unknown := setting.unmatched(tensors):
            shown = ", ".join(tensors[:_SHOWN])
            raise UserInputError(
                f"{what}: {name}: no tensor that is fused has {unknown[0]!r} in its name; the base's are {shown}, …"
            )


def _weigh(found: Resolved, asked: _Asked) -> Resolved:
    given: list[float | None] = [None] * len(asked.inputs)
    combiner = found.recipe.combiner
    rows = {}
    for tensor, row in asked.rows(WEIGHT, given).items():
        for item, weight in zip(asked.inputs, row, strict=True):
            if weight is None and combiner.needs_weights:
                has_none = not (WEIGHT in item.settings or WEIGHT in asked.shared)
                where = "; give it one, or all of them one" if has_none else f" for tensor {tensor}; add a rule for all"
                raise UserInputError(f"{item.path}: no weight{where}")
        rows[tensor] = tuple(1.0 if weight is None else weight for weight in row)
    if len(distinct := set(rows.values())) == 1:
        return replace(found, weights=distinct.pop())
    return replace(found, weights=(1.0,) * len(asked.inputs), tensor_weights=rows)


def _set_step(found: Resolved, index: int, names: Mapping[str, str], asked: _Asked) -> Resolved:
    """Set the parameters of one step, given what they are called in the settings."""
    step, count = found.recipe.steps[index], len(asked.inputs)
    tables: dict[str, Rows] = {}
    for parameter, name in names.items():
        usual = getattr(step, parameter)
        rows = asked.rows(name, [None] * count)
        turns = name.rpartition(".")[2] == "density" and parameter == "drop"
        tables[parameter] = {
            tensor: tuple(_value(step, parameter, v, usual, tensor, turns=turns) for v in row)
            for tensor, row in rows.items()
        }
    new, own = _checked_step(step, tables, [str(item.path) for item in asked.inputs])
    steps = list(found.recipe.steps)
    steps[index] = new
    by_place = {(index, tensor): values for tensor, values in own.items()}
    return replace(found, recipe=arrange(steps, "the recipe"), own={**found.own, **by_place})


def _value(step: Method, parameter: str, said: float | None, usual: object, tensor: str, *, turns: bool) -> float:
    if said is not None:
        return 1 - said if turns else said
    if isinstance(usual, int | float):
        return float(usual)
    raise UserInputError(
        f"{known_methods().name_of(type(step))}: no {parameter} for tensor {tensor}; add one without a filter"
    )


def _checked_step(
    step: Method, tables: Mapping[str, Rows], paths: Sequence[str]
) -> tuple[Method, dict[str, dict[str, Float64]]]:
    """Return the step with what is the same everywhere, and by tensor ("" for all) what is not."""
    own: dict[str, dict[str, Float64]] = {}
    for parameter, rows in tables.items():
        by_contribution, by_tensor = _differences(step, parameter, rows)
        for tensor, row in rows.items() if by_tensor else [("", next(iter(rows.values())))]:
            if by_contribution or by_tensor:
                own.setdefault(tensor, {})[parameter] = np.array(row)
    made = [
        _validated(step, dict(zip(tables, combination, strict=True)), f"{paths[i]}: {tensor}")
        for combination, (tensor, i) in _combinations(tables, len(paths)).items()
    ]
    return max(made, key=lambda each: len(each.measures())), own


def _differences(step: Method, parameter: str, rows: Rows) -> tuple[bool, bool]:
    """Tell whether a parameter differs between contributions, and between tensors. Refuses what no formula has."""
    name, allowed = known_methods().name_of(type(step)), step.varying().get(parameter, frozenset())
    by_contribution, by_tensor = any(len(set(row)) > 1 for row in rows.values()), len(set(rows.values())) > 1
    if by_contribution and "contribution" not in allowed:
        raise UserInputError(f"{name}: {parameter} is one number for all models; give it under parameters")
    if by_tensor and "tensor" not in allowed:
        hint = "; take variant=mergekit, which does not" if allowed else ""
        raise UserInputError(f"{name}: {parameter} is one number for all tensors, as it looks at the whole model{hint}")
    return by_contribution, by_tensor


def _combinations(tables: Mapping[str, Rows], count: int) -> dict[tuple[float, ...], tuple[str, int]]:
    """Return all values that parameters have together, and where: in which tensor, for which contribution."""
    tensors = next(iter(tables.values()))
    found: dict[tuple[float, ...], tuple[str, int]] = {}
    for tensor in tensors:
        for i in range(count):
            found.setdefault(tuple(rows[tensor][i] for rows in tables.values()), (tensor, i))
    return found


def _validated(step: Method, values: Mapping[str, float], where: str) -> Method:
    name = known_methods().name_of(type(step))
    try:
        return type(step).model_validate({**step.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        said = ", ".join(f"{key}={value:g}" for key, value in values.items() if key in first["loc"] or not first["loc"])
        raise UserInputError(f"{where}: {name}: {said}: {first['msg']}") from error
