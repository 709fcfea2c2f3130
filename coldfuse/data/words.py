"""Names and labels from files, as messages show them: short, on one line, and nothing that moves a cursor."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 40
_MOST = 12


def shown(text: str) -> str:
    r"""Return the text for a message: cut if it is long, and what cannot be printed escaped.

    >>> shown("two\nlines"), shown("\ud83d"), len(shown("x" * 1000))
    ('two\\nlines', '\\ud83d', 40)
    """
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def listing(names: Iterable[str]) -> str:
    """Return names for a message, the first of them where they are many.

    >>> listing(["text", "label"]), listing([])
    ('text, label', 'none')
    """
    every = list(names)
    rest = f" and {len(every) - _MOST} more" if len(every) > _MOST else ""
    return (", ".join(map(shown, every[:_MOST])) or "none") + rest


def plural(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> plural(1, "row"), plural(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
