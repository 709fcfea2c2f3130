"""What a user names as data to tables, one after the other: the one way in which everything here is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from coldfuse.data.addresses import Address, HubAddress, QueryAddress
from coldfuse.data.arrow_tables import open_arrow
from coldfuse.data.conll import open_conll
from coldfuse.data.database import open_query
from coldfuse.data.delimited import open_delimited
from coldfuse.data.documents import open_document
from coldfuse.data.folders import DOCUMENT_ENDINGS, TOKEN_ENDINGS
from coldfuse.data.hub import open_hub
from coldfuse.data.json_rows import open_json
from coldfuse.data.kinds import Kind, kind_of
from coldfuse.data.labels import names_on_card
from coldfuse.data.media import open_media_folder
from coldfuse.data.sources import Source, explaining, find_sources
from coldfuse.data.tables import Choice, FileFormat, Table
from coldfuse.data.words import listing, printable
from coldfuse.errors import UserInputError

_FITTING = {
    "--separator": (Kind.DELIMITED, Kind.TOKENS),
    "--text-encoding": (Kind.DELIMITED, Kind.TOKENS, Kind.DOCUMENT, Kind.JSON),
    "--documents": (Kind.DOCUMENT,),
}
"""Kinds of files that an option is for."""


def open_tables(
    data: Path | str | Sequence[Path | str], choice: Choice, file_format: FileFormat, *, limit: int | None = None
) -> Iterator[Table]:
    """Open all that is named, one after the other.

    Args:
        data: Files, folders, patterns and addresses.
        choice: What is looked for.
        file_format: How text files are written.
        limit: Number of rows of which no more are needed, so that a data set of the Hub is not downloaded whole.

    Raises:
        UserInputError: Something is not there, cannot be read, or an option does not fit it.
    """
    for source in find_sources(data, also=_endings(choice), media=choice.takes_media):
        with explaining(source.name):
            table = _open(source, choice, file_format, limit)
        try:
            yield table
        finally:
            table.close()


def check_limit(limit: int | None) -> None:
    """Refuse a bound that leaves nothing."""
    if limit is not None and limit < 1:
        raise UserInputError(f"--max-examples {limit}: expected 1 or more")


def _endings(choice: Choice) -> tuple[str, ...]:
    """Return the endings of files that a folder may hold instead of tables."""
    if choice.takes_tokens:
        return (*TOKEN_ENDINGS, *DOCUMENT_ENDINGS)
    return DOCUMENT_ENDINGS if choice.takes_documents else ()


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


def _open(source: Source | Address, choice: Choice, file_format: FileFormat, limit: int | None) -> Table:
    if isinstance(source, QueryAddress):
        _refuse_misplaced(source.name, "a database", _said(file_format))
        return open_query(source)
    if isinstance(source, HubAddress):
        _refuse_misplaced(source.name, "of the Hub", _said(file_format))
        return open_hub(source, is_streamed=limit is not None)
    if source.path is not None and source.path.is_dir():
        media = choice.takes_media or "image"
        return open_media_folder(source.path, media, lambda path: _open_file(
            Source(name=printable(str(path)), path=path), choice, file_format
        ))  # fmt: skip
    return _open_file(source, choice, file_format)


def _open_file(source: Source, choice: Choice, file_format: FileFormat) -> Table:
    kind = kind_of(source, choice, file_format)
    misplaced = {option for option in _said(file_format) if kind not in _FITTING[option]}
    _refuse_misplaced(source.name, kind.value, misplaced)
    if kind is Kind.DELIMITED:
        return open_delimited(source, file_format, choice)
    if kind is Kind.JSON:
        return open_json(source, file_format)
    if kind is Kind.DOCUMENT:
        return open_document(source, file_format)
    if kind is Kind.TOKENS:
        return open_conll(source, file_format)
    return open_arrow(source, kind)


def _said(file_format: FileFormat) -> set[str]:
    """Return the options that the user has given."""
    given = {
        "--separator": file_format.separator, "--text-encoding": file_format.encoding,
        "--documents": file_format.documents,
    }  # fmt: skip
    return {option for option, value in given.items() if value is not None}


def _refuse_misplaced(name: str, what: str, options: set[str]) -> None:
    for option in sorted(options):
        which = "plain text of a task that reads texts alone" if option == "--documents" else "text files"
        raise UserInputError(f"{name}: {option} is for {which}, and this is {what}; leave it out")
