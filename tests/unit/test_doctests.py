"""Every example in a docstring is run, in every module that has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import coldfuse

ROOT = Path(coldfuse.__file__).parent


def with_examples() -> list[str]:
    files = [path for path in ROOT.rglob("*.py") if ">>> " in path.read_text()]
    return sorted(".".join(("coldfuse", *path.relative_to(ROOT).with_suffix("").parts)) for path in files)


@pytest.mark.parametrize("name", with_examples())
def test_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert result.attempted > 0
    assert result.failed == 0
