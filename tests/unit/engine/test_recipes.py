from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from coldfuse.engine import recipes
from coldfuse.engine.recipes import known_methods
from coldfuse.errors import UserInputError
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.method import Combiner


class Unfinished(Combiner):
    summary = "does nothing yet"
    source = "nowhere"


class Demanding(Mean):
    amount: float


class Silent(Combiner):
    def fuse(self, block):
        return block.base_N


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (Unfinished, "fuse: the class must define this"),
        (Demanding, "amount: every parameter needs a default"),
        (Silent, "summary, source: the class needs this text"),
        (dict, "expected a subclass of Transform, Combiner or Outer"),
    ],
)
def test_a_plug_in_that_cannot_work_is_named_with_what_it_lacks(monkeypatch, kind, complaint) -> None:
    module = ModuleType("someones_methods")
    module.Kind = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "someones_methods", module)
    point = EntryPoint(name="own", value="someones_methods:Kind", group=recipes.GROUP)
    monkeypatch.setattr(recipes, "entry_points", lambda group: [point])
    known_methods.cache_clear()
    try:
        with pytest.raises(UserInputError, match=f"entry point own = someones_methods:Kind of .*: {complaint}"):
            known_methods()
    finally:
        known_methods.cache_clear()
