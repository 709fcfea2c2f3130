"""What does not go into a result, named: nothing is dropped without a word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coldfuse.core.words import printable

_MOST_NAMED = 4
"""Number of names of one kind that a line for people has."""


@dataclass(frozen=True)
class LeftOut:
    """Files or tensors of one kind that lie in a base or an input, and not in what is made of it."""

    what: str
    """Name or place of what has them."""
    names: tuple[str, ...]
    """All of their names; a whole folder's ends with a slash."""
    why: str
    """The kind that they are, or the reason, in a few words."""


def left_out_lines(found: Iterable[LeftOut]) -> list[str]:
    """Say it for people: a line for each thing that has something left out, with a few names of each kind.

    >>> left_out_lines([LeftOut("base", ("LICENSE", "README.md"), "documents"), LeftOut("base", (".git/",), "hidden")])
    ['left out of base: LICENSE, README.md (documents); .git/ (hidden)']
    """
    kinds: dict[str, list[str]] = {}
    for item in found:
        kinds.setdefault(item.what, []).append(f"{_some(item.names)} ({item.why})")
    return [printable(f"left out of {what}: {'; '.join(texts)}") for what, texts in kinds.items()]


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(name[:200] for name in (names if more <= 1 else names[:_MOST_NAMED]))
    return f"{shown} and {more} more" if more > 1 else shown
