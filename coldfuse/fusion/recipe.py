"""A recipe in one line: `clip then ties(density=0.3) then nesterov`.

    recipe = step ["then" step]…        step = name ["(" key=value ["," key=value]… ")"]

Any number of transforms, at most one combiner (the mean, if none is named), any number of outers, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from pydantic import ValidationError

from coldfuse.errors import UserInputError
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.method import Combiner, Method, Outer, Statistic, Transform
from coldfuse.fusion.methods import Methods

_STEP = re.compile(r"\s*(?P<name>[a-z0-9][a-z0-9-]*)\s*(?:\((?P<params>[^()]*)\))?\s*")
_THEN = re.compile(r"(?<![\w-])then(?![\w-])")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What happens to the contributions, in order."""

    transforms: tuple[Transform, ...] = ()
    combiner: Combiner = field(default_factory=Mean)
    outers: tuple[Outer, ...] = ()

    @property
    def steps(self) -> tuple[Method, ...]:
        """All steps in order."""
        return (*self.transforms, self.combiner, *self.outers)

    @property
    def whole_rows(self) -> bool:
        """Whether blocks must hold whole rows."""
        return any(step.whole_rows for step in self.steps)

    @property
    def is_random(self) -> bool:
        """Whether a step looks at random keys."""
        return any(step.is_random for step in self.steps)

    @property
    def statistic(self) -> Statistic | None:
        """The kind of statistics that contributions bring; None for none."""
        return next((step.statistic for step in self.steps if step.statistic), None)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the outers' state."""
        return tuple(slot for outer in self.outers for slot in outer.slots)

    @property
    def factor(self) -> float | None:
        """What all outer steps together multiply the fused delta by; None where one of them does anything else."""
        product = 1.0
        for outer in self.outers:
            if outer.factor is None:
                return None
            product *= outer.factor
        return product


def parse_recipe(
    line: str,
    methods: Mapping[str, type[Method]],
    *,
    params: Mapping[str, str] | None = None,
) -> Recipe:
    """Read a recipe.

    Args:
        line: The recipe.
        methods: What its names mean.
        params: Parameters by name, for every step that has such a one and does not set it in the line itself.

    Raises:
        UserInputError: A method or parameter is not known, a value is out of bounds, or steps are in the wrong order.
    """
    parsed = [_parse_step(text, methods) for text in _THEN.split(line)]
    for key in params or {}:
        if not any(parameter_of(step.kind, key) in step.kind.model_fields for step in parsed):
            raise UserInputError(f"no step of {line!r} has a parameter {key!r}; known are {_known(parsed)}")
    return arrange([_make(step, params or {}) for step in parsed], line)


def parameter_of(kind: type[Method], key: str) -> str:
    """Return the name of the parameter that a key stands for: the command line and earlier recipes say `flavour`."""
    return "variant" if key == "flavour" and "variant" in kind.model_fields else key


def unknown_method(name: str, known: Collection[str]) -> UserInputError:
    """Say that there is no such method, and which was perhaps meant."""
    close = get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return UserInputError(f"fusion method {name!r} is not known; {hint}known are {', '.join(known)}")


def arrange(steps: Iterable[Method], line: str) -> Recipe:
    """Check the order of the steps, and put the mean where a combiner is missing."""
    recipe = Recipe()
    stage = 0
    for step in steps:
        kind = _stage(step)
        if kind < stage or (kind == stage == 1):
            raise UserInputError(
                f"{line!r}: expected transforms, then one method that combines, then outer steps, in this order"
            )
        stage = kind
        match step:
            case Transform():
                recipe = replace(recipe, transforms=(*recipe.transforms, step))
            case Combiner():
                recipe = replace(recipe, combiner=step)
            case Outer():
                recipe = replace(recipe, outers=(*recipe.outers, step))
    if len(set(recipe.slots)) < len(recipe.slots):
        raise UserInputError(f"{line!r}: two outer steps keep the same state; name one of them")
    return recipe


def format_recipe(recipe: Recipe, methods: Methods, *, varying: Mapping[int, Collection[str]] | None = None) -> str:
    """Write a recipe with every parameter, so that it means the same whatever later defaults are.

    Args:
        recipe: What is written.
        methods: Where the steps' names come from.
        varying: Parameters without one value, by the index of their step: `varies` is written in its place.
    """
    return " then ".join(
        f"{methods.name_of(type(step))}{_format_params(step, (varying or {}).get(index, ()))}"
        for index, step in enumerate(recipe.steps)
    )


def _format_params(step: Method, varying: Collection[str]) -> str:
    known = step.model_dump(mode="json")
    given = {key: "varies" if key in varying else value for key, value in known.items() if value is not None}
    return f"({', '.join(f'{key}={_format(value)}' for key, value in given.items())})" if given else ""


def _format(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _stage(step: Method) -> int:
    return 0 if isinstance(step, Transform) else 1 if isinstance(step, Combiner) else 2


@dataclass(frozen=True)
class _Parsed:
    """A step as it was written."""

    name: str
    kind: type[Method]
    own: dict[str, str]


def _parse_step(text: str, methods: Mapping[str, type[Method]]) -> _Parsed:
    match = _STEP.fullmatch(text)
    if match is None:
        hint = f"; did you mean {lower}?" if (lower := _in_lower_case(text, methods)) else ""
        raise UserInputError(
            f"{text.strip()!r}: expected a step such as ties or ties(density=0.3); join them with then{hint}"
        )
    if match["name"] not in methods:
        raise unknown_method(match["name"], methods)
    kind, own = methods[match["name"]], dict[str, str]()
    for pair in filter(None, (part.strip() for part in (match["params"] or "").split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or parameter_of(kind, key) in own:
            raise UserInputError(f"{text.strip()!r}: expected each parameter once, as key=value; got {pair!r}")
        own[parameter_of(kind, key)] = value
    return _Parsed(match["name"], kind, own)


def _in_lower_case(text: str, methods: Collection[str]) -> str | None:
    """Return what was perhaps meant: the same in lower case, if all its steps are known then."""
    lower = text.lower().strip()
    steps = [_STEP.fullmatch(step) for step in _THEN.split(lower)]
    return lower if all(step and step["name"] in methods for step in steps) else None


def _make(step: _Parsed, wanted: Mapping[str, str]) -> Method:
    fields = step.kind.model_fields
    given = {parameter_of(step.kind, key): value for key, value in wanted.items()}
    try:
        return step.kind.model_validate({key: value for key, value in given.items() if key in fields} | step.own)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserInputError(
                f"{step.name} has no parameter {key!r}; it has {', '.join(fields) or 'none'}"
            ) from error
        where = f"{step.name}: {key}={first['input']}" if key else step.name
        raise UserInputError(f"{where}: {first['msg']}") from error


def _known(steps: Iterable[_Parsed]) -> str:
    return ", ".join(sorted({key for step in steps for key in step.kind.model_fields})) or "none"
