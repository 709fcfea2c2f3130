from __future__ import annotations

import click
import pytest
from command_tree import commands


@pytest.mark.parametrize("name", commands())
def test_every_command_shows_an_example(name: str) -> None:
    lines = [line.strip() for line in (commands()[name].help or "").splitlines()]
    assert any(line.startswith(f"Example: coldfuse {name}") for line in lines)


@pytest.mark.parametrize("name", commands())
def test_every_option_says_what_it_does(name: str) -> None:
    options = [p for p in commands()[name].params if isinstance(p, click.Option) or hasattr(p, "is_flag")]
    silent = [p.name for p in options if not getattr(p, "help", None)]
    assert set(silent) <= {"batch_size"}  # nothing would be added to its name
