"""What extras bring, and who lacks one is told what to install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from coldfuse.errors import ColdfuseError, MissingExtraError
from coldfuse.extras import EXTRAS, requiring

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
DECLARED = PROJECT["optional-dependencies"]
IMPORTED_AS = {"pyyaml": "yaml", "scikit-learn": "sklearn", "pillow": "PIL"}


def libraries_of(extra: str) -> set[str]:
    """The libraries of an extra as they are imported, with those of the extras that it includes."""
    found: set[str] = set()
    for requirement in DECLARED[extra]:
        name, included = re.match(r"([a-z0-9-]+)(?:\[([a-z,]+)\])?", requirement).groups()
        if name == "coldfuse":
            found.update(*map(libraries_of, included.split(",")))
        else:
            found.add(IMPORTED_AS.get(name, name.replace("-", "_")))
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_is_what_the_package_declares(extra: str) -> None:
    assert libraries_of(extra) == EXTRAS[extra]


def test_nothing_is_in_an_extra_and_needed_by_all() -> None:
    needed = {re.match(r"[a-z0-9-]+", requirement)[0].replace("-", "_") for requirement in PROJECT["dependencies"]}
    assert not needed & frozenset().union(*EXTRAS.values())


@pytest.mark.parametrize(
    ("library", "extra", "named"),
    [
        ("torch", "contributor", "contributor"),
        ("numpy", "contributor", "contributor"),
        ("numpy", None, "fuse"),
        ("ray", "fuse", "aggregator"),
        ("torch.nn", "fuse", "contributor"),
        ("matplotlib", "demo", "demo"),
    ],
)
def test_the_extra_that_was_meant_is_named_or_the_smallest(library: str, extra: str | None, named: str) -> None:
    with pytest.raises(MissingExtraError) as caught, requiring("coldfuse that", extra):
        raise ModuleNotFoundError(f"No module named {library!r}", name=library)
    top = library.partition(".")[0]
    assert str(caught.value) == f"coldfuse that needs {top}, which is not installed: pip install 'coldfuse[{named}]'"
    assert isinstance(caught.value, (ColdfuseError, ImportError))
    assert caught.value.name == top


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'x'", name="x"), ImportError("broken")])
def test_what_no_extra_brings_is_no_missing_extra(error: ImportError) -> None:
    with pytest.raises(ImportError) as caught, requiring("coldfuse that"):
        raise error
    assert caught.value is error


def test_what_is_needed_late_is_looked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "more", frozenset({"gone"}))  # type: ignore[arg-type]
    with requiring("coldfuse that", "fuse", at_once=("numpy",)):
        pass
    with (
        pytest.raises(MissingExtraError, match="needs gone, which is not"),
        requiring("coldfuse that", at_once=["gone"]),
    ):
        raise AssertionError
