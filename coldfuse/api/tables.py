"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows of values as an HTML table.

    >>> html_table(["name"], [["<b>"]])
    '<table><tr><th>name</th></tr><tr><td style="text-align: left">&lt;b&gt;</td></tr></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    cells = ("".join(f'<td style="text-align: left">{escape(str(value))}</td>' for value in row) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
