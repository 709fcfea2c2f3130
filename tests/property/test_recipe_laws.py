"""A recipe that is written and read again is the same, whatever its methods and their parameters."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from coldfuse.errors import UserInputError
from coldfuse.fusion.method import Combiner, Method, Outer, Transform
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import Recipe, arrange, format_recipe, parse_recipe

ODD_SPACES = st.sampled_from(["", " ", "  ", "\t", "\n "])


def bounds(field: FieldInfo) -> dict[str, float]:
    return {
        key: getattr(rule, key) for rule in field.metadata for key in ("gt", "ge", "lt", "le") if hasattr(rule, key)
    }


def values(annotation: Any, field: FieldInfo) -> st.SearchStrategy[Any]:
    """Draw what a parameter may be."""
    rules = bounds(field)
    least, most = rules.get("ge", rules.get("gt")), rules.get("le", rules.get("lt"))
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(least, most if most is not None else 10**6)
    if annotation is float:
        open_ends = {"exclude_min": "gt" in rules, "exclude_max": "lt" in rules}
        return st.floats(least, most, allow_nan=False, allow_infinity=False, **open_ends)
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    assert kinds, f"how is {annotation} drawn?"
    unset = [st.none()] if field.default is None else []
    return st.one_of(*unset, *(values(kind, field) for kind in kinds))


@st.composite
def steps(draw: st.DrawFn, kinds: list[type[Method]]) -> Method:
    kind = draw(st.sampled_from(kinds))
    given_ones = {
        name: draw(values(field.annotation, field)) for name, field in kind.model_fields.items() if draw(st.booleans())
    }
    try:
        return kind.model_validate(given_ones)
    except ValidationError:  # parameters that do not go together
        assume(False)
        raise


def of(base: type[Method]) -> list[type[Method]]:
    return [kind for kind in METHODS.values() if issubclass(kind, base)]


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    chosen = [
        *draw(st.lists(steps(of(Transform)), max_size=3)),
        *draw(st.lists(steps(of(Combiner)), max_size=1)),
        *draw(st.lists(steps(of(Outer)), max_size=2)),
    ]
    try:
        return arrange(chosen, "drawn")
    except UserInputError:  # two outers with the same memory
        assume(False)
        raise


@settings(max_examples=5, deadline=None)
@given(st.data())
def test_every_method_comes_back_from_its_line(data: st.DataObject) -> None:
    for name, kind in METHODS.items():
        step = data.draw(steps([kind]))
        assert step in parse_recipe(format_recipe(arrange([step], name), METHODS), METHODS).steps


@settings(max_examples=50, deadline=None)
@given(recipes())
def test_every_recipe_comes_back_from_its_line(recipe: Recipe) -> None:
    line = format_recipe(recipe, METHODS)
    again = parse_recipe(line, METHODS)
    assert again == recipe
    assert format_recipe(again, METHODS) == line


@settings(max_examples=50, deadline=None)
@given(recipes(), st.data())
def test_spaces_never_matter(recipe: Recipe, data: st.DataObject) -> None:
    line = format_recipe(recipe, METHODS)
    for mark in "(),=":
        line = line.replace(mark, f"{data.draw(ODD_SPACES)}{mark}{data.draw(ODD_SPACES)}")
    line = line.replace(" then ", f" {data.draw(ODD_SPACES)}then{data.draw(ODD_SPACES)} ")
    assert parse_recipe(data.draw(ODD_SPACES) + line + data.draw(ODD_SPACES), METHODS) == recipe


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="acelipstmn-then ()=,.0123\n\tΔ", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_recipe_or_is_refused(text: str) -> None:
    try:
        recipe = parse_recipe(text, METHODS)
    except UserInputError:
        return
    assert parse_recipe(format_recipe(recipe, METHODS), METHODS) == recipe


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_value_out_of_bounds_is_refused_and_names_method_and_parameter(data: st.DataObject) -> None:
    bounded = [(n, k, bounds(f)) for n, kind in METHODS.items() for k, f in kind.model_fields.items() if bounds(f)]
    name, key, rules = data.draw(st.sampled_from(bounded))
    outside = {
        "ge": lambda least: math.floor(least) - 1,
        "gt": lambda least: least,
        "le": lambda most: math.ceil(most) + 1,
        "lt": lambda most: most,
    }
    rule = data.draw(st.sampled_from(sorted(rules)))
    value = outside[rule](rules[rule])
    with pytest.raises(UserInputError, match=rf"^{name}: {key}={value}: Input should be "):
        parse_recipe(f"{name}({key}={value})", METHODS)
