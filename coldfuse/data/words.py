"""Names and labels from files, as messages show them: short, on one line, and nothing that moves a cursor."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 40
_MOST = 12


def printable(text: str) -> str:
    r"""Return the text with what cannot be printed escaped.

    >>> printable("two\nlines"), printable("\ud83d")
    ('two\\nlines', '\\ud83d')
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(text: str) -> str:
    """Return the text for a message: cut if it is long, and what cannot be printed escaped.

    >>> shown("label"), len(shown("x" * 1000))
    ('label', 40)
    """
    return printable(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def quoted(text: str) -> str:
    """Return the text for a message, in quotes.

    >>> quoted("ham")
    "'ham'"
    """
    return f"'{shown(text)}'"


def listing(names: Iterable[str]) -> str:
    """Return names for a message, the first of them where they are many.

    >>> listing(["text", "label"]), listing([])
    ('text, label', 'none')
    """
    every = list(names)
    rest = f" and {len(every) - _MOST} more" if len(every) > _MOST else ""
    return (", ".join(map(shown, every[:_MOST])) or "none") + rest
