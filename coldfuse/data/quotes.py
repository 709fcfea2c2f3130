"""Quotes in tables: marks around a cell, letters of a text, or strays that would glue rows together.

Nothing in a file says which of them a `"` is. A wrong guess trains on texts that hold other rows, with their labels,
and nobody notices; so the whole file is looked at, and what stays open is refused with its line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from coldfuse.errors import UserInputError

LONGEST_LINE_BYTES = 64 << 20
_WELL_FORMED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)
_LINE_ENDS = re.compile(r"\r\n|\r|\n")


CellRows = Iterator[tuple[int, list[str]]]
"""Cells of each record, and the line that it begins in."""


def read_quoted(lines: Iterable[str], separator: str, *, name: str, spaced: bool = False) -> CellRows:
    """Yield the cells of each record and its first line: quotes stand around whole cells, and are doubled inside.

    Args:
        lines: The lines, with their ends.
        separator: What stands between cells.
        name: The file, for messages.
        spaced: A space behind a separator belongs to it.

    Raises:
        UserInputError: A quote stands where none can, or has no partner.
    """
    csv.field_size_limit(LONGEST_LINE_BYTES)
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=spaced)
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserInputError(f"{name}: line {first}: {_stray(str(error), first, reader.line_num)}") from error
        if len(cells) > 1 or (cells and cells[0].strip()):  # else it is blank
            yield first, cells


def read_unquoted(lines: Iterable[str], separator: str) -> CellRows:
    """Yield the cells of each line and its number; a quote is a letter."""
    for number, line in enumerate(lines, start=1):
        if line.strip() or separator in line:
            yield number, line.rstrip("\r\n").split(separator)


class TabEvidence:
    """Whether the quotes of a tab-separated file stand around cells or belong to the texts.

    GLUE and many other files are written without quoting, and a text may begin with `"`. Pandas and Excel put quotes
    around cells that hold a quote or a tab, and double those inside. Quotes are marks if every cell that begins with
    one is well formed and something shows a writer that quotes: a doubled quote inside, a column that is quoted in
    every row, quotes around just those cells that hold a comma (Excel), or lines that have their number of cells only
    so. Else they are letters.
    """

    def __init__(self) -> None:
        self.num_quoted = 0
        self._num_with_comma = 0
        self._is_malformed = self._is_doubled = self._has_bare_comma = False
        self._always: set[int] | None = None

    def look(self, cells: list[str]) -> None:
        """Look at the cells of one line, which has the right number of them."""
        quoted = set()
        for index, cell in enumerate(cells):
            if not cell.startswith('"'):
                self._is_malformed = self._is_malformed or '"' in cell
                self._has_bare_comma = self._has_bare_comma or "," in cell
                continue
            quoted.add(index)
            self._is_malformed = self._is_malformed or _WELL_FORMED.fullmatch(cell) is None
            self._is_doubled = self._is_doubled or '""' in cell[1:-1]
            self._num_with_comma += "," in cell
        self.num_quoted += len(quoted)
        self._always = quoted if self._always is None else self._always & quoted

    @property
    def are_marks(self) -> bool:
        """Whether quotes stand around cells, in a file whose lines all have their number of cells."""
        if self._is_malformed or not self.num_quoted:
            return False
        like_excel = self._num_with_comma == self.num_quoted and not self._has_bare_comma
        return self._is_doubled or bool(self._always) or like_excel


def fits_only_quoted(lines: Iterable[str], num_columns: int) -> bool:
    """Say whether a tab-separated file is whole when read with quotes, and no cell swallows another row."""
    try:
        for _, cells in read_quoted(lines, "\t", name=""):
            if len(cells) != num_columns or any("\t" in cell and _LINE_ENDS.search(cell) for cell in cells):
                return False
    except UserInputError:
        return False
    return True


class SwallowedRows:
    """Finds quoted cells that run over several lines because of a stray quote, and hold other rows.

    A review may have line ends, and commas in its lines. But where these have just the cells of a row, and in the
    label's place a label that other rows have, they are rows.
    """

    def __init__(self, *, name: str, separator: str, num_columns: int, label: int | None) -> None:
        self._name, self._separator, self._num_columns, self._label = name, separator, num_columns, label
        self._labels: set[str] = set()
        self._suspects: list[tuple[int, int, list[str]]] = []

    def look(self, line: int, cells: list[str]) -> None:
        """Look at a record that begins in this line."""
        if self._label is not None and self._label < len(cells):
            self._labels.add(cells[self._label])
        for place, cell in enumerate(cells):
            if "\n" in cell or "\r" in cell:
                pieces = _LINE_ENDS.split(cell)
                labels, num_capable = self._labels_inside(pieces, place)
                if labels and 2 * len(labels) >= num_capable:
                    self._suspects.append((line, line + len(pieces) - 1, labels))

    def check(self) -> None:
        """Refuse the file if a cell has swallowed rows, once all were looked at."""
        for first, last, labels in self._suspects:
            num_known = sum(label in self._labels for label in labels)
            repeats = len(labels) > 2 and 2 * len(set(labels)) <= len(labels)
            if self._label is None or 2 * num_known >= len(labels) or repeats:
                raise UserInputError(
                    f"{self._name}: line {first}: a quoted cell begins here and runs to line {last}, over lines that "
                    'look like rows of their own; is there a stray "? In CSV a quote inside a text is doubled ("")'
                )

    def _labels_inside(self, pieces: list[str], place: int) -> tuple[list[str], int]:
        """Return what stands in the label's place of the lines that have a row's cells, and how many could have it."""
        found, num_capable, last = [], 0, len(pieces) - 1
        for number, piece in enumerate(pieces):
            cells = piece.split(self._separator)
            before = place if number == 0 else 0
            expected = (place + 1 if number == last else self._num_columns) - before
            where = (self._label if self._label is not None else 0) - before
            if not piece.strip() or not 0 <= where < expected or (self._label is None and number in (0, last)):
                continue
            num_capable += 1
            if len(cells) == expected:
                found.append(cells[where])
        if self._label is None and (len(found) < num_capable or num_capable < 3 or self._num_columns < 2):
            return [], num_capable
        return found, num_capable


def _stray(error: str, first: int, last: int) -> str:
    advice = 'in CSV a text with a quote stands in quotes, and the quotes inside are doubled ("")'
    if "expected after" in error:
        where = "" if first == last else f" in line {last}"
        return f"a quoted cell ends in the middle of the text{where}; {advice}"
    if "unexpected end" in error:
        return f"a quote opens here and is never closed; {advice}"
    if "field limit" in error:
        return f"a cell begins here that is longer than {LONGEST_LINE_BYTES >> 20} million characters; {advice}"
    return f"{error}; {advice}"
