"""The names that `import coldfuse` gives, and that they are the ones that type checkers see."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import coldfuse
from coldfuse import errors

SOURCE = Path(coldfuse.__file__).read_text()


def test_the_exported_names_are_these() -> None:
    api = {name for name in coldfuse.__all__ if name not in vars(errors)}
    assert api == {
        "__version__", "attach", "connect", "diff", "evaluate", "fetch", "fuse", "methods", "load_module", "push",
        "rank", "similarity", "Federation", "Status", "Releases", "ReleaseSummary", "FetchedRelease", "Acknowledgement",
        "ContributionVerdict", "Decision", "FusedModel", "Methods", "MethodInfo", "ParameterInfo", "EvaluationResult",
        "Movement", "Pushed",
    }  # fmt: skip


def test_every_name_is_there_and_says_what_it_is() -> None:
    for name in coldfuse.__all__:
        found = getattr(coldfuse, name)
        assert isinstance(found, str) if name == "__version__" else inspect.getdoc(found)
    assert dir(coldfuse) == coldfuse.__all__


def test_every_error_is_exported() -> None:
    raised = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert raised <= set(coldfuse.__all__)


def test_type_checkers_see_what_there_is() -> None:
    [checked] = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.If)][:1]
    seen = {
        (node.module, alias.name) for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {(home, name) for home, names in coldfuse._HOMES.items() for name in names}
    assert (Path(coldfuse.__file__).parent / "py.typed").is_file()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'coldfuse' has no attribute 'fusion_method'"):
        _ = coldfuse.fusion_method


FUNCTIONS = ("connect", "diff", "evaluate", "fetch", "fuse", "methods", "push", "rank", "similarity")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_what_they_take_give_and_raise(name: str) -> None:
    function = getattr(coldfuse, name)
    documented = inspect.getdoc(function) or ""
    assert "Raises:" in documented
    for parameter in inspect.signature(function).parameters:
        assert f"{parameter}: " in documented, parameter
