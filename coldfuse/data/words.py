"""Names and labels from files, as messages show them: short, on one line, and nothing that moves a cursor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_LONGEST = 40
_MOST = 12
_MOST_WORDS = 4
_SENTENCE = re.compile(r"[.,!?;\"]\s|[!?;\"]$|[^.]\.$|^[-+]?[0-9.,]+$|[\n\t@]")


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


def look_like_names(names: Sequence[str]) -> bool:
    """Say whether words may be names of columns, and no cells of an example: no numbers, sentences or long ones.

    >>> look_like_names(["id", "Review text", "mood (1-5)"]), look_like_names(["I loved it.", "pos"])
    (True, False)
    """
    if list(names) == [str(place) for place in range(len(names))]:  # pandas numbers columns so
        return True
    return all(
        len(name) <= _LONGEST and len(name.split()) <= _MOST_WORDS and not _SENTENCE.search(name) for name in names
    )


def listing_of_names(names: Iterable[str]) -> str:
    """Return names for a message, unless they look like somebody's data: then how many there are."""
    every = list(names)
    return listing(every) if look_like_names(every) else f"{len(every):,} names that look like texts or numbers"
