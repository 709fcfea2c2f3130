"""CoNLL files: a token a line with its tags behind it, and a blank line between sentences.

Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 shared task", section 2.1, and its relatives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from coldfuse.data.lines import encoding_of, read_lines
from coldfuse.data.sources import Source
from coldfuse.data.tables import FileFormat, Row, Table, Wanted
from coldfuse.errors import UserInputError

_LONGEST_LINE_BYTES = 1 << 20
_DOCUMENT_START = "-DOCSTART-"
_COMMENT = re.compile(r"#(?: |$|\w+\s*=)")
_UNIVERSAL = ("id", "tokens", "lemma", "pos_tags", "xpos", "feats", "head", "deprel", "deps", "misc")
"""Columns of CoNLL-U, https://universaldependencies.org/format.html."""
_NUMBERED = re.compile(r"\d+(?:[-.]\d+)?")
_ADVICE = "expected a token and its tags a line, and a blank line between sentences"


@dataclass(frozen=True, kw_only=True)
class _Lines:
    source: Source
    encoding: str
    separator: str | None
    """What stands between token and tags; None for any space."""

    def sentences(self) -> Iterator[tuple[int, list[list[str]]]]:
        """Yield each sentence's first line and its rows of cells; comments and marks of documents are none."""
        first, rows = 0, list[list[str]]()
        lines = read_lines(self.source, self.encoding, longest_bytes=_LONGEST_LINE_BYTES)
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                if rows:
                    yield first, rows
                rows = []
            elif not line.startswith(_DOCUMENT_START) and not (not rows and _COMMENT.match(line)):
                first = first if rows else number
                rows.append([cell.strip() for cell in line.strip("\r\n").split(self.separator)])
                if not all(rows[-1]):
                    raise UserInputError(f"{self.source.name}: line {number} has an empty cell; {_ADVICE}")
                if len(rows[-1]) != len(rows[0]):
                    raise UserInputError(
                        f"{self.source.name}: line {number} has {len(rows[-1])} cells, and the line before it "
                        f"{len(rows[0])}; {_ADVICE}"
                    )
        if rows:
            yield first, rows


def open_conll(source: Source, file_format: FileFormat) -> Table:
    """Open a file of tokens and tags as a table of sentences, whose columns hold lists.

    The first column is `tokens`, the last `tags`; those between are `tags2`, `tags3` and so on, by their place. Of
    CoNLL-U (ten columns, the first of which counts), they have their own names, with `tokens` and `pos_tags` for FORM
    and UPOS.

    Raises:
        UserInputError: Its lines have different numbers of cells, or only one.
    """
    encoding = encoding_of(source, file_format.encoding)
    separator = _separator(source, encoding, file_format.separator)
    lines = _Lines(source=source, encoding=encoding, separator=separator)
    first_sentence: list[list[str]] = next((rows for _, rows in lines.sentences()), [[]])
    num_columns = len(first_sentence[0])
    if num_columns < 2:
        raise UserInputError(f"{source.name}: no tags behind the tokens; {_ADVICE}")
    is_universal = num_columns == len(_UNIVERSAL) and all(_NUMBERED.fullmatch(cells[0]) for cells in first_sentence)
    names = _UNIVERSAL if is_universal else ("tokens", *(f"tags{n}" for n in range(2, num_columns)), "tags")

    def rows(wanted: Wanted) -> Iterator[Row]:
        places = [names.index(name) for name in wanted.columns]
        for first, sentence in lines.sentences():
            if len(sentence[0]) != num_columns:
                raise UserInputError(
                    f"{source.name}: line {first} has {len(sentence[0])} cells, and the first sentence {num_columns}; "
                    f"{_ADVICE}"
                )
            words = [cells for cells in sentence if not is_universal or cells[0].isdigit()]  # 1-2 and 1.1 are none
            yield first, [[cells[place] for cells in words] for place in places]

    form = ("a token a line",) if encoding == "utf-8" else ("a token a line", encoding.upper())
    return Table(name=source.name, path=source.path, names=names, rows=rows, unit="line", form=form)


def _separator(source: Source, encoding: str, given: str | None) -> str | None:
    """Return what stands between cells: what the user says, a tab where the first row has one, else any space."""
    if given is not None:
        return {"tab": "\t", "\\t": "\t", "space": None}.get(given.lower(), given)
    for _, rows in _Lines(source=source, encoding=encoding, separator="\t").sentences():
        return "\t" if len(rows[0]) > 1 else None
    return None
