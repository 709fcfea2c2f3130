"""Plain text files: one document a file, or one a line."""

from __future__ import annotations

from collections.abc import Iterator

from coldfuse.data.lines import encoding_of, read_lines
from coldfuse.data.sources import Source
from coldfuse.data.tables import FileFormat, Row, Table, Wanted
from coldfuse.data.words import shown
from coldfuse.errors import UserInputError

TEXT_COLUMN = "text"
"""Name of the one column."""
_LONGEST_BYTES = 1 << 30


def open_document(source: Source, file_format: FileFormat) -> Table:
    """Open a text file as a table of one column; blank lines are no documents.

    Raises:
        UserInputError: It is not said how documents lie in it, or a byte is no letter of its encoding.
    """
    by_line = file_format.documents == "line"
    if file_format.documents not in (None, "file", "line"):
        raise UserInputError(f"--documents {shown(str(file_format.documents))}: expected file or line")
    encoding = encoding_of(source, file_format.encoding)

    def rows(wanted: Wanted) -> Iterator[Row]:
        places: Iterator[tuple[int, str]]
        lines = read_lines(source, encoding, longest_bytes=_LONGEST_BYTES)
        if by_line:
            places = ((number, line.rstrip("\r\n")) for number, line in enumerate(lines, start=1) if line.strip())
        else:
            places = iter([(1, _whole(source, lines))])
        for place, text in places:
            yield place, [text] * len(wanted.columns)

    form = ("a document a line",) if by_line else ("a document a file",)
    return Table(
        name=source.name, path=source.path, names=(TEXT_COLUMN,), rows=rows, unit="line",
        form=form if encoding == "utf-8" else (*form, encoding.upper()),
    )  # fmt: skip


def _whole(source: Source, lines: Iterator[str]) -> str:
    pieces, size = [], 0
    for line in lines:
        size += len(line)
        if size > _LONGEST_BYTES:
            raise UserInputError(
                f"{source.name}: a document of more than {_LONGEST_BYTES >> 30} GiB; split it, or say --documents line"
            )
        pieces.append(line)
    return "".join(pieces)
