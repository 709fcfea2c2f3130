"""Words from the other end, as a terminal or a notebook may show them."""

from __future__ import annotations

from coldfuse.core.words import printable

MAX_CHARS = 1000
"""Status details travel as a header, and gRPC drops connections whose headers exceed 8 KiB; UTF-8 in percent form
takes up to 6 bytes a character of the sentences' alphabets."""


def plain(text: str) -> str:
    r"""Return the text on one line, cut at `MAX_CHARS`, without what a terminal would obey instead of showing.

    >>> plain("all is\nwell\x1b[2J")
    'all is well�[2J'
    """
    line = " ".join(text[: MAX_CHARS + 1].split())
    line = printable(line, instead="�")
    return line if len(line) <= MAX_CHARS else line[: MAX_CHARS - 1] + "…"
