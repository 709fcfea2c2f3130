"""Reading a fusion method as its user writes it, and what a federation can do with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coldfuse.api.fusing import read_method
from coldfuse.cli.options.shared import RecipeWords
from coldfuse.core.release import MAX_METHOD_CHARS
from coldfuse.core.scored_weights import Weighting
from coldfuse.engine.recipes import write_recipe
from coldfuse.errors import FusionError, UserInputError
from coldfuse.fusion.in_memory import InMemory
from coldfuse.fusion.informed.regmean import RegMean
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.recipe import Recipe
from coldfuse.search.methods import read_search

_LARGEST_OFF_DIAGONAL, _LEAST_RIDGE = 0.999, 1e-4
"""With these a sum of Gram matrices stays solvable whatever passes the screening."""

_TRIED_QUORUM = 256
"""Whether a method takes a larger one is not tried: it would take a while, and no known method minds."""


def recipe_of(line: str, params: Sequence[str] = (), variant: str | None = None, *, may_search: bool = False) -> Recipe:
    """Read what the user wrote."""
    pairs: dict[str, str] = {}
    for key, value in map(_pair, params):
        if key in pairs:
            raise UserInputError(f"--param {key}={value}: {key} is {pairs[key]} already; give each parameter once")
        pairs[key] = value
    if variant:
        pairs["variant"] = variant
    return (read_search if may_search else read_method)(line, params=pairs)


def line_of(recipe: Recipe, words: RecipeWords) -> str:
    """Return the line that is kept: the user's own, or with every parameter where some were given beside it."""
    return write_recipe(recipe) if words.param or words.variant else words.method


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserInputError(f"--param {text}: expected KEY=VALUE, such as density=0.3")
    return key.strip(), value.strip()


def require_federated(recipe: Recipe, *, quorum: int, with_statistics: bool = False) -> None:
    """Refuse what cannot work in a federation.

    That is an order of models, methods that would refuse a round, or that one contribution could make refuse every
    round, and, where nobody computes any, statistics.
    """
    if any(_positional(recipe, count) for count in (2, 3)):
        raise UserInputError("this method depends on the order of the models, and a federation has none")
    if (kind := recipe.statistic) and not with_statistics:
        raise UserInputError(f"this method needs {kind} statistics, which these contributions do not bring")
    if reason := _why_one_could_stop_it(recipe.combiner):
        raise UserInputError(reason)
    if len(line := write_recipe(recipe)) > MAX_METHOD_CHARS:
        raise UserInputError(f"the recipe with every parameter has {len(line)} characters, at most {MAX_METHOD_CHARS}")
    if quorum <= _TRIED_QUORUM:
        for count, what in ((quorum, "a round of the quorum"), (quorum + 1, "a round of one more than the quorum")):
            if refusal := _refusal(recipe, count):
                raise UserInputError(f"--quorum {quorum}: the method would refuse {what}: {refusal}")


def require_weighted(recipe: Recipe, weighting: Weighting | None) -> None:
    """Refuse weights by score for a method that looks at no weights."""
    if weighting in (None, "none") or recipe.combiner.is_weighted:
        return
    raise UserInputError(
        f"--weighting {weighting}: {write_recipe(recipe)[:100]} looks at no weights; take one that does, such as "
        "--method weighted-mean, or --weighting none"
    )


def _why_one_could_stop_it(combiner: Combiner) -> str | None:
    """Say why one contribution's statistics could make the method refuse every round."""
    if not isinstance(combiner, RegMean) or combiner.off_diagonal <= _LARGEST_OFF_DIAGONAL:
        return None
    if combiner.ridge >= _LEAST_RIDGE:
        return None
    return (
        f"regmean(off_diagonal={combiner.off_diagonal:g}): one contribution could make the sum of the Gram matrices "
        f"singular, and stop every round; set off_diagonal to at most {_LARGEST_OFF_DIAGONAL}, or ridge to "
        f"{_LEAST_RIDGE} or more"
    )


def _refusal(recipe: Recipe, count: int) -> str | None:
    """Say why a method refuses so many contributions, if it does so by their number alone."""
    rng = np.random.default_rng(0)
    deltas = [{"": rng.normal(size=(4, 5))} for _ in range(count)]
    try:
        InMemory(recipe=recipe, base={"": np.ones((4, 5))}, deltas=deltas).fuse()
    except FusionError as error:
        return str(error)
    return None


def _positional(recipe: Recipe, count: int) -> bool:
    try:
        return recipe.combiner.positional_weights(count) is not None
    except FusionError:  # it takes another number of models
        return False
