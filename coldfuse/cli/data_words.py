"""What a user says of data files, as what reads them takes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, cast, get_args

import typer

from coldfuse.cli.options.shared import Columns
from coldfuse.data.lines import is_text_encoding
from coldfuse.data.tables import FileFormat
from coldfuse.tensors.encodings import Encoding


class TextColumns(TypedDict):
    """Columns of texts, and how their files are written, as they are read."""

    text_column: str | None
    text_pair_column: str | None
    file_format: FileFormat
    limit: int | None


class ColumnNames(TextColumns):
    """The same with the labels."""

    label_column: str | None


def named_columns(columns: Columns) -> dict[str, str]:
    """Return the columns that the user names, by role."""
    named = {
        "text": columns.text_column, "text_pair": columns.text_pair_column, "label": columns.label_column
    }  # fmt: skip
    found = {role: name for role, name in named.items() if name is not None}
    for given in columns.column:
        role, equals, name = map(str.strip, given.partition("="))
        if not (role and equals and name):
            raise typer.BadParameter(f"--column {given}: expected ROLE=NAME, such as tokens=words or text=data.body")
        if found.setdefault(role, name) != name:
            raise typer.BadParameter(
                f"--column {given}: the column of {role} is said to be {found[role]}, too; say one"
            )
    return found


def file_format_of(columns: Columns) -> FileFormat:
    """Return how the user says that files are written."""
    documents = getattr(columns, "documents", None)
    return FileFormat(separator=columns.separator, encoding=columns.text_encoding, documents=documents)


def text_columns_of(columns: Columns) -> TextColumns:
    """Return the columns as arguments of what reads texts."""
    named = named_columns(columns)
    if others := named.keys() - {"text", "text_pair", "label"}:
        raise typer.BadParameter(f"--column {min(others)}=…: texts with labels are read here: text, text_pair, label")
    return TextColumns(
        text_column=named.get("text"), text_pair_column=named.get("text_pair"), limit=columns.max_examples,
        file_format=file_format_of(columns),
    )  # fmt: skip


def columns_of(columns: Columns) -> ColumnNames:
    """Return the columns as arguments of what reads texts with labels."""
    return ColumnNames(label_column=named_columns(columns).get("label"), **text_columns_of(columns))


def encodings_of(given: str, columns: Columns) -> tuple[Encoding, Columns]:
    """Tell a delta's encoding from one of text files, which elsewhere is `--encoding`, too."""
    for encoding in get_args(Encoding):
        if given.upper() == encoding:
            return cast("Encoding", encoding), columns
    if is_text_encoding(given):
        return "F32", replace(columns, text_encoding=given)
    raise typer.BadParameter(
        f"--encoding {given}: expected F32, BF16 or F16 for the delta, or an encoding of text files such as cp1252"
    )
