"""What users call models, in the calls that score or compare several: light to import, whatever is installed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.core.words import plural
from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.api.candidates import Fetch

Place = str | os.PathLike[str]


def fetching(root: str | None) -> Fetch:
    """Return what brings a release of a federation, verified; see `coldfuse.fetch`."""
    from coldfuse.api.connect import fetch  # noqa: PLC0415 - for releases alone

    def bring(source: str, which: int | str, out: Path) -> None:
        if isinstance(which, int):
            fetch(source, out, root=root, release=which)
        else:
            fetch(source, out, root=root, channel=which)

    return bring


def as_text(place: Place | None) -> str | None:
    """Return a path as text."""
    return None if place is None else os.fspath(place)


def check_names(models: Sequence[Place], *, fewest: int) -> list[str]:
    """Return the names of models. Raises `UserInputError` where there are too few, or two alike."""
    names = [os.fspath(model) for model in models]
    if len(names) < fewest:
        raise UserInputError(f"{plural(len(names), 'model')}, expected {fewest} or more")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserInputError(f"{twice[0]}: named twice; name each model once")
    return names
