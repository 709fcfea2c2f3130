"""Naming a fusion method on the command line, and listing them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import typer

from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.fusion.method import Method
    from coldfuse.fusion.recipe import Recipe

METHOD = typer.Option(
    "mean", help='Fusion method, or steps joined by then: "clip then ties(density=0.3) then nesterov".'
)
PARAM = typer.Option([], "--param", help="A parameter of the method, KEY=VALUE; as often as needed.")
FLAVOUR = typer.Option(None, help="paper (as its own code computes it) or mergekit, where they differ.")

_TRIED_QUORUM = 256
"""Whether a method takes a larger one is not tried: it would take a while, and no known method minds."""

_KINDS = {
    "Search": "searches on held-out data",
    "Transform": "changes each delta",
    "Combiner": "combines",
    "Outer": "moves the base",
}


def recipe_of(line: str, params: list[str], flavour: str | None, *, may_search: bool = False) -> Recipe:
    """Read what the user wrote."""
    from coldfuse.engine.recipes import read_recipe
    from coldfuse.search.methods import SEARCHES, read_search

    pairs: dict[str, str] = {}
    for key, value in map(_pair, params):
        if key in pairs:
            raise UserInputError(f"--param {key}={value}: {key} is {pairs[key]} already; give each parameter once")
        pairs[key] = value
    if not may_search and (found := SEARCHES.keys() & set(re.findall(r"[a-z0-9-]+", line))):
        raise UserInputError(f"{found.pop()} searches on held-out data, so it is for coldfuse fuse --data")
    if flavour:
        pairs["flavour"] = flavour
    return (read_search if may_search else read_recipe)(line, params=pairs)


def methods(
    name: str | None = typer.Argument(None, help="Show only this method, with its parameters.", show_default=False),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List the fusion methods, or one method's parameters.

    Example: coldfuse methods ties
    """
    from coldfuse.engine.recipes import known_methods
    from coldfuse.fusion.recipe import unknown_method
    from coldfuse.search.methods import SEARCHES

    known = known_methods() | SEARCHES
    if name is not None and name not in known:
        raise unknown_method(name, known)
    shown = known if name is None else {name: known[name]}
    if as_json:
        typer.echo(json.dumps([{"name": key, **_described(kind)} for key, kind in shown.items()], indent=2))
    elif name is None:
        for key, kind in shown.items():
            typer.echo(f"{key:>18}  {kind.summary}")
    else:
        _show(name, known[name])


def _show(name: str, kind: type[Method]) -> None:
    row = _described(kind)
    typer.echo(f"{name}: {row['summary']}\n  {row['kind']}; {row['needs']}\n  source: {row['source']}")
    for field, info in kind.model_fields.items():
        typer.echo(f"  {field}={info.default}  {' '.join((info.description or '').split())}")


def _described(kind: type[Method]) -> dict[str, object]:
    return {
        "summary": kind.summary,
        "source": kind.source,
        "kind": next(text for base, text in _KINDS.items() if base in {parent.__name__ for parent in kind.__mro__}),
        "needs": _needs(kind),
        "parameters": {
            field: {"default": info.default, "meaning": " ".join((info.description or "").split())}
            for field, info in kind.model_fields.items()
        },
    }


def _needs(kind: type[Method]) -> str:
    """Say in a few words what the engine does for a method."""
    from coldfuse.fusion.method import MatrixCombiner
    from coldfuse.search.methods import Search

    if issubclass(kind, Search):
        return kind.needs
    passes = len(kind().measures())
    words = ["one pass" if not passes else f"{passes} measuring pass{'es' if passes > 1 else ''} first"]
    if issubclass(kind, MatrixCombiner):
        squares = f" and {kind.num_squares} of its columns squared" if kind.num_squares else ""
        words.append(f"in memory: about {kind.num_matrices} matrices of the size of the tensor{squares}")
    if kind.whole_rows:
        words.append("whole rows")
    if kind.statistic:
        words.append(f"{kind.statistic} statistics of every contribution")
    if slots := getattr(kind, "slots", ()):
        words.append(f"keeps {', '.join(slots)} between rounds")
    return "; ".join(words)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserInputError(f"--param {text}: expected KEY=VALUE, such as density=0.3")
    return key.strip(), value.strip()


def require_federated(recipe: Recipe, *, quorum: int) -> None:
    """Refuse what cannot work in a federation.

    That is an order of models, statistics, which contributions do not carry, and methods that would refuse a round.
    """
    from coldfuse.core.release import MAX_METHOD_CHARS
    from coldfuse.engine.recipes import write_recipe

    if any(_positional(recipe, count) for count in (2, 3)):
        raise UserInputError("this method depends on the order of the models, and a federation has none")
    if kind := next((step.statistic for step in recipe.steps if step.statistic), None):
        raise UserInputError(
            f"this method needs {kind} statistics, which contributions do not carry; use coldfuse fuse"
        )
    if len(line := write_recipe(recipe)) > MAX_METHOD_CHARS:
        raise UserInputError(f"the recipe with every parameter has {len(line)} characters, at most {MAX_METHOD_CHARS}")
    if quorum <= _TRIED_QUORUM:
        for count, what in ((quorum, "a round of the quorum"), (quorum + 1, "a round of one more than the quorum")):
            if refusal := _refusal(recipe, count):
                raise UserInputError(f"--quorum {quorum}: the method would refuse {what}: {refusal}")


def _refusal(recipe: Recipe, count: int) -> str | None:
    """Say why a method refuses so many contributions, if it does so by their number alone."""
    import numpy as np

    from coldfuse.errors import FusionError
    from coldfuse.fusion.in_memory import InMemory

    rng = np.random.default_rng(0)
    deltas = [{"": rng.normal(size=(4, 5))} for _ in range(count)]
    try:
        InMemory(recipe=recipe, base={"": np.ones((4, 5))}, deltas=deltas).fuse()
    except FusionError as error:
        return str(error)
    return None


def _positional(recipe: Recipe, count: int) -> bool:
    from coldfuse.errors import FusionError

    try:
        return recipe.combiner.positional_weights(count) is not None
    except FusionError:  # it takes another number of models
        return False
