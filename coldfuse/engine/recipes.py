"""The methods that a recipe may use: coldfuse's own, and those of packages that are installed beside it.

A package adds one by an entry point of the group `coldfuse.methods`: its name is the method's, its value a subclass of
`Transform`, `Combiner` or `Outer` of `coldfuse.fusion.method`. On Ray every worker needs that package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from coldfuse.errors import UserInputError
from coldfuse.fusion.method import Combiner, Method, Outer, Transform
from coldfuse.fusion.methods import METHODS, Methods
from coldfuse.fusion.recipe import Recipe, format_recipe, parse_recipe

GROUP = "coldfuse.methods"
"""Name of the group of entry points in which packages list their methods."""

_NAME = re.compile(r"(?!.*\bthen\b)[a-z0-9][a-z0-9-]*")


@cache
def known_methods() -> Methods:
    """Return all methods by name.

    Raises:
        UserInputError: An entry point cannot be loaded, is no complete method, or takes a name that is in use.
    """
    found = METHODS
    for point in entry_points(group=GROUP):
        where = f"entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a package'}"
        if point.name in found:
            raise UserInputError(f"{where}: there is a fusion method of this name already; rename it")
        if not _NAME.fullmatch(point.name):
            raise UserInputError(f"{where}: expected a name of lower-case letters, digits and '-', without 'then'")
        found |= {point.name: _load(point, where)}
    return found


def _load(point: EntryPoint, where: str) -> type[Method]:
    try:
        kind = point.load()
    except Exception as error:  # another package's code, which may fail in any way when it is imported
        raise UserInputError(f"{where}: cannot be loaded: {error}; repair or remove that package") from error
    if not (isinstance(kind, type) and issubclass(kind, (Transform, Combiner, Outer))):
        raise UserInputError(f"{where}: expected a subclass of Transform, Combiner or Outer")
    required = [name for name, field in kind.model_fields.items() if field.is_required()]
    missing = [name for name in ("summary", "source") if not isinstance(getattr(kind, name, None), str)]
    for names, wanted in (
        (sorted(kind.__abstractmethods__), "the class must define this"),
        (required, "every parameter needs a default"),
        (missing, "the class needs this text"),
    ):
        if names:
            raise UserInputError(f"{where}: {', '.join(names)}: {wanted}")
    return kind


def read_recipe(line: str, *, params: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe of known methods.

    Args:
        line: Steps joined by `then`, each with its parameters in parentheses.
        params: Parameters that are given beside the line, by name.

    Raises:
        UserInputError: The line means nothing, or names an unknown method or parameter.
    """
    return parse_recipe(line, known_methods(), params=params)


def write_recipe(recipe: Recipe) -> str:
    """Write a recipe as a line with every parameter, which `read_recipe` reads as the same recipe."""
    return format_recipe(recipe, known_methods())
