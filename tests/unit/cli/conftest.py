from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import typer.main
import typer.testing

made = cache(typer.main.get_command)


@pytest.fixture(scope="module", autouse=True)
def commands_are_made_once() -> Iterator[None]:
    """Keep the commands that typer makes of functions, which takes longer than most of the commands themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", made)
        patch.setattr(typer.testing, "_get_command", made, raising=False)  # its own name for it
        yield
