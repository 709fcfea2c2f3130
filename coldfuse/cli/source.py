"""What a user names a federation by (a store: folder or s3://…, or a gateway's address: host:port)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypedDict, cast, get_args

import typer

from coldfuse.cli.options.shared import Columns, Connection
from coldfuse.cli.units import parse_duration
from coldfuse.data.lines import is_text_encoding
from coldfuse.data.tables import FileFormat
from coldfuse.gateway import Gateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import open_store
from coldfuse.tensors.deltas import Encoding
from coldfuse.transport import connect as transport
from coldfuse.trust.tls import TlsFiles


class TextColumns(TypedDict):
    """Columns of texts, and how their files are written, as they are read."""

    text_column: str | None
    text_pair_column: str | None
    file_format: FileFormat


class ColumnNames(TextColumns):
    """The same with the labels."""

    label_column: str | None


def open_store_of(source: str) -> Federation:
    """Open the federation in a store."""
    return open_federation(open_store(source))


def tls_files(ca: Path | None, cert: Path | None, key: Path | None) -> TlsFiles | None:
    """Return the certificates that were given, if any."""
    return TlsFiles(ca=ca, cert=cert, key=key) if ca or cert or key else None


def tls_of(connection: Connection) -> TlsFiles | None:
    """Return the certificates that were given, if any."""
    return tls_files(connection.tls_ca, connection.tls_cert, connection.tls_key)


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


def connect(source: str, connection: Connection) -> Gateway:
    """Connect to a federation, in a store or at an address."""
    retry_s = parse_duration(connection.patience)
    return transport.connect(source, tls=tls_of(connection), insecure=connection.insecure, retry_s=retry_s)
