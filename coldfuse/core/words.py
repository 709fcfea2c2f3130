"""Words from elsewhere as people may read them, and numbers with their nouns."""

from __future__ import annotations

from coldfuse.core.names import is_shown


def printable(text: str, *, instead: str = "?") -> str:
    r"""Return the text without what acts on the terminal that shows it: controls, directions, what is invisible.

    >>> printable("a\x1b[2Jb"), printable("Klinik Köln")
    ('a?[2Jb', 'Klinik Köln')

    Args:
        text: What somebody else has said, or called something.
        instead: What stands for a character that is left out.
    """
    return "".join(each if is_shown(text, index) else instead for index, each in enumerate(text))


def plural(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> plural(1, "row"), plural(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {noun}{'s' if count != 1 else ''}"
