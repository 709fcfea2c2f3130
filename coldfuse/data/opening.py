"""What a user names as data to tables, one after the other: the one way in which everything here is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from coldfuse.data.arrow_tables import open_arrow
from coldfuse.data.conll import open_conll
from coldfuse.data.delimited import open_delimited
from coldfuse.data.documents import open_document
from coldfuse.data.folders import DOCUMENT_ENDINGS, TOKEN_ENDINGS
from coldfuse.data.json_rows import open_json
from coldfuse.data.kinds import Kind, kind_of
from coldfuse.data.labels import names_on_card
from coldfuse.data.sources import Source, explaining, find_sources
from coldfuse.data.tables import Choice, FileFormat, Table
from coldfuse.data.words import listing
from coldfuse.errors import UserInputError

_TEXT_KINDS = (Kind.DELIMITED, Kind.DOCUMENT, Kind.TOKENS)


def open_tables(data: Path | str | Sequence[Path | str], choice: Choice, file_format: FileFormat) -> Iterator[Table]:
    """Open all that is named, one after the other; `choice` says what is looked for in it.

    Raises:
        UserInputError: Something is not there, cannot be read, or an option does not fit it.
    """
    also = DOCUMENT_ENDINGS if choice.takes_documents or choice.takes_tokens else ()
    for source in find_sources(data, also=(*also, *TOKEN_ENDINGS) if choice.takes_tokens else also):
        with explaining(source.name):
            table = _open(source, choice, file_format)
        yield table


class KnownClasses:
    """Names of classes that files say, or cards beside them; files that are read together must say the same."""

    def __init__(self) -> None:
        self.names: Sequence[str] | None = None
        self._first = ""

    def add(self, table: Table, column: str | None, *, is_label: bool = True) -> None:
        """Take a table's names for a column of labels.

        Args:
            table: The table.
            column: The column; None: labels are not read.
            is_label: Whether a card beside the file speaks of this column.
        """
        if column is None:
            return
        on_card = names_on_card(table.path) if is_label and table.path is not None else None
        names = on_card or table.class_names.get(column)
        if not self._first:
            self.names, self._first = names, table.name
        elif names != self.names:
            raise UserInputError(
                f"{table.name}: its classes are {listing(names or ())}, and those of {self._first} are "
                f"{listing(self.names or ())}; read files of one task together"
            )


def _open(source: Source, choice: Choice, file_format: FileFormat) -> Table:
    kind = kind_of(source, choice, file_format)
    for option, given in (("--separator", file_format.separator), ("--text-encoding", file_format.encoding)):
        applies = kind in _TEXT_KINDS or (kind is Kind.JSON and option == "--text-encoding")
        if given is not None and not applies:
            raise UserInputError(f"{source.name}: {option} is for text files, and this is {kind.value}; leave it out")
    if kind is Kind.DELIMITED:
        return open_delimited(source, file_format, choice)
    if kind is Kind.JSON:
        return open_json(source, file_format)
    if kind is Kind.DOCUMENT:
        return open_document(source, file_format)
    if kind is Kind.TOKENS:
        return open_conll(source, file_format)
    return open_arrow(source, kind)
