"""Tables as plain text, which stays readable in a log and in a narrow terminal's scrollback."""

from __future__ import annotations

from collections.abc import Sequence

from coldfuse.core.words import printable


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: the first column to the left, the others to the right, each as wide as it has to be.

    >>> aligned([["model", "logme"], ["a", "-0.5"]])
    ['model  logme', 'a       -0.5']
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    return [
        "  ".join(cell.ljust(width) if not number else cell.rjust(width) for number, (cell, width) in enumerate(
            zip(row, widths, strict=True)
        )).rstrip()
        for row in shown
    ]  # fmt: skip


def figure(value: float | None, *, digits: int = 3) -> str:
    """Write a number of a table; a dash where there is none.

    >>> figure(0.12345), figure(None), figure(-12345.678)
    ('0.123', '–', '-12345.678')
    """
    return "–" if value is None else f"{value:.{digits}f}"
