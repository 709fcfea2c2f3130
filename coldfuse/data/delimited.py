"""CSV, TSV and their relatives: the separator is found in the header, and rows are never glued together.

Comma, semicolon and pipe separate cells that may be quoted, as RFC 4180 says: quotes around a whole cell, doubled
inside, with line ends in it if need be. Tabs separate cells whose quotes are letters, unless the file shows that they
are marks (`quotes.TabEvidence`). A row with another number of cells than the header is refused with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from coldfuse.core.words import plural
from coldfuse.data.lines import encoding_of, read_lines
from coldfuse.data.quotes import (
    LONGEST_LINE_BYTES,
    CellRows,
    SwallowedRows,
    TabEvidence,
    fits_only_quoted,
    read_quoted,
    read_unquoted,
)
from coldfuse.data.sources import Source
from coldfuse.data.tables import Choice, FileFormat, Row, Table, Wanted
from coldfuse.data.words import listing_of_names, look_like_names, shown
from coldfuse.errors import UserInputError

_SEPARATORS = (",", "\t", ";", "|")
_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_USUAL = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_MARKS = re.compile(r"[^\w\s]")
_LOOKED_AT = 200
"""Rows that are looked at to tell a file without a header."""
_EXCEL = "sep="
"""Excel's own first line, which names the separator."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How one file is written."""

    source: Source
    encoding: str
    separator: str
    skipped: int
    """Lines before the header."""
    is_spaced: bool
    """Whether a space follows each separator."""
    is_quoted: bool = True
    """Whether quotes stand around cells; else they are letters."""
    quotes: str | None = None
    """What is to be said of them."""
    header: tuple[str, ...] = ()
    """Names of all columns; empty for one without a name."""

    @property
    def named(self) -> list[int]:
        """Places of the columns that have a name."""
        return [place for place, name in enumerate(self.header) if name]

    def lines(self) -> Iterator[str]:
        """Yield the lines; what stands before the header as blank ones, which keeps the others' numbers."""
        for place, line in enumerate(read_lines(self.source, self.encoding, longest_bytes=LONGEST_LINE_BYTES)):
            yield line if place >= self.skipped else "\n"

    def records(self) -> CellRows:
        """Yield all records with their first lines, the header first."""
        if self.is_quoted:
            return read_quoted(self.lines(), self.separator, name=self.source.name, spaced=self.is_spaced)
        return read_unquoted(self.lines(), self.separator)

    def with_header(self, cells: Sequence[str]) -> _Layout:
        """Return the same with the names of the columns."""
        header = tuple(map(_name, cells))
        if not any(header):
            raise UserInputError(f"{self.source.name}: its first line names no column, expected text,label or such")
        return replace(self, header=header)

    def fitted(self, line: int, cells: list[str]) -> list[str]:
        """Return a row's cells, as many as the header has; refuse a row that is not whole.

        Cells beyond the header, and those of columns without a name, may be missing or empty.
        """
        num, expected = len(cells), len(self.header)
        if num == expected:
            return cells
        if self.named[-1] < num < expected:
            return cells + [""] * (expected - num)
        if num > expected and not any(cell.strip() for cell in cells[expected:]):
            return cells[:expected]
        raise UserInputError(
            f"{self.source.name}: line {line} has {plural(num, 'cell')}, expected {expected} as in the header "
            f"({listing_of_names(name or '(no name)' for name in self.header)}); {self._advice(num, cells)}"
        )

    def _advice(self, num: int, cells: Sequence[str]) -> str:
        if any("\n" in cell for cell in cells):
            return 'a quoted cell of it runs over several lines: is there a stray "?'
        if not self.is_quoted:
            return "tabs separate cells, and quotes are letters here"
        between = f"the separator is {self.separator!r}"
        return f"{between}, and a text that holds one stands in quotes" if num > len(self.header) else between


def open_delimited(source: Source, file_format: FileFormat, choice: Choice) -> Table:
    """Open a CSV or TSV file as a table.

    Args:
        source: The file.
        file_format: Separator and encoding, if the user says them.
        choice: Which columns are meant; a separator that makes them is the likelier one.
    """
    layout = _layout(source, file_format, choice)
    names = [layout.header[place] for place in layout.named]
    notes: list[str] = []
    parts = _MARKS.split(names[0]) if len(names) == 1 else []  # a separator that was not found
    is_usual = choice.is_likely(names) > 0 or 1 < len(parts) == choice.is_likely(parts)
    return Table(
        name=source.name,
        path=source.path,
        are_names_doubtful=not is_usual and _looks_like_an_example(layout),
        names=tuple(dict.fromkeys(names)),
        repeated=frozenset(name for name in names if names.count(name) > 1),
        rows=lambda wanted: _rows(layout, wanted, notes),
        form=_form(layout),
        notes=notes,
    )


def _layout(source: Source, file_format: FileFormat, choice: Choice) -> _Layout:
    """Find out how a file is written."""
    given = _separator_named(file_format.separator)
    encoding = encoding_of(source, file_format.encoding)
    header, skipped, told = "", 0, None
    for line in read_lines(source, encoding, longest_bytes=LONGEST_LINE_BYTES):
        header = line.strip("\r\n")
        if header.lower().startswith(_EXCEL) and len(header) == len(_EXCEL) + 1:
            told = header[-1]
        elif header.strip():
            break
        skipped += 1
    separator = given or told or _likeliest(header, _USUAL.get(source.ending, ","), choice)
    is_spaced = separator != " " and header.count(separator) == header.count(separator + " ") > 0
    layout = _Layout(source=source, encoding=encoding, separator=separator, skipped=skipped, is_spaced=is_spaced)
    if separator == "\t":
        return _tabbed(layout)
    for _, cells in layout.records():
        return layout.with_header(cells)
    raise UserInputError(f"{source.name}: cannot be read: it is empty, expected a table with a text and a label column")


def _looks_like_an_example(layout: _Layout) -> bool:
    """Say whether a first line without any usual name may be an example: then nothing of it is said.

    It is one if a cell of it stands below, too, and may be one if it is a single cell, nothing stands below, or a cell
    is a number, a sentence, or words as people's names are.
    """
    header = [name for name in layout.header if name]
    if len(header) < 2 or not look_like_names(header) or any(len(name.split()) > 1 for name in header):
        return True
    num_below = 0
    try:
        for _, cells in islice(layout.records(), 1, _LOOKED_AT):
            num_below += 1
            if any(name and name == _name(cell) for name, cell in zip(layout.header, cells, strict=False)):
                return True
    except UserInputError:  # said with its line when the rows are read
        return num_below == 0
    return num_below == 0


def _separator_named(given: str | None) -> str | None:
    if given is None:
        return None
    separator = _WORDS.get(given.lower(), given)
    if len(separator) != 1 or separator.isalnum() or separator in '"\r\n':
        raise UserInputError(
            f"--separator {shown(given)}: expected one character such as ; or |, or one of {', '.join(_WORDS)}"
        )
    return separator


def _likeliest(header: str, usual: str, choice: Choice) -> str:
    """Return the separator whose columns have the likeliest names, then the one with most columns, then the usual."""

    def rank(separator: str) -> tuple[int, int, bool]:
        names = [_name(cell) for cell in header.split(separator)]
        return choice.is_likely(names), len(names), separator == usual

    return max(_SEPARATORS, key=rank)


def _tabbed(layout: _Layout) -> _Layout:
    """Look through a tab-separated file for what its quotes are."""
    letters = replace(layout, is_quoted=False)
    evidence = TabEvidence()
    wrong: UserInputError | None = None
    for line, cells in letters.records():
        if not letters.header:
            letters = letters.with_header(cells)
            continue
        try:
            evidence.look(letters.fitted(line, cells))
        except UserInputError as error:
            wrong = error
            break
    if wrong is not None and not fits_only_quoted(layout.lines(), len(letters.header)):
        raise wrong
    if wrong is not None or evidence.are_marks:
        return replace(letters, is_quoted=True, quotes="quoted cells")
    return replace(letters, quotes="quotes are letters" if evidence.num_quoted else None)


def _rows(layout: _Layout, wanted: Wanted, notes: list[str]) -> Iterator[Row]:
    places = [layout.header.index(name) for name in wanted.columns]
    swallowed = SwallowedRows(
        name=layout.source.name, separator=layout.separator, num_columns=len(layout.header),
        label=layout.header.index(wanted.label) if wanted.label is not None else None,
    )  # fmt: skip
    nameless = [place for place, name in enumerate(layout.header) if not name]
    num_filled = 0
    for line, cells in islice(layout.records(), 1, None):
        if layout.is_quoted:
            swallowed.look(line, cells)
        whole = layout.fitted(line, cells)
        num_filled += any(whole[place].strip() for place in nameless)
        yield line, [whole[place] or None for place in places]
    swallowed.check()
    if num_filled:
        what = "a column without a name is" if len(nameless) == 1 else f"{len(nameless)} columns without a name are"
        notes.append(f"{layout.source.name}: {what} not read; {plural(num_filled, 'row')} with something there")


def _form(layout: _Layout) -> tuple[str, ...]:
    """Say what is unusual."""
    form = []
    if layout.separator != _USUAL.get(layout.source.ending, ","):
        form.append("separator tab" if layout.separator == "\t" else f"separator {layout.separator!r}")
    if layout.encoding != "utf-8":
        form.append(layout.encoding.upper())
    return (*form, layout.quotes) if layout.quotes else tuple(form)


def _name(cell: str) -> str:
    """Return a column's name without spaces, marks and quotes around it."""
    name = cell.strip().strip("\ufeff").strip()
    return name[1:-1].replace('""', '"').strip() if len(name) > 1 and name[0] == name[-1] == '"' else name
