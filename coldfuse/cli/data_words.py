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


class ColumnNames(TextColumns):
    """The same with the labels."""

    label_column: str | None


def text_columns_of(columns: Columns) -> TextColumns:
    """Return the columns as arguments of what reads texts."""
    return TextColumns(
        text_column=columns.text_column, text_pair_column=columns.text_pair_column,
        file_format=FileFormat(separator=columns.separator, encoding=columns.text_encoding),
    )  # fmt: skip


def columns_of(columns: Columns) -> ColumnNames:
    """Return the columns as arguments of what reads texts with labels."""
    return ColumnNames(label_column=columns.label_column, **text_columns_of(columns))


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
