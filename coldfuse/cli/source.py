"""What a user names a federation by (a store: folder or s3://…, or a gateway's address: host:port)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import typer

from coldfuse.cli.contact import Contact
from coldfuse.cli.options.shared import Columns, Connection
from coldfuse.cli.pace import Pace
from coldfuse.cli.units import parse_duration
from coldfuse.gateway import Gateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import open_store
from coldfuse.transport import connect as transport
from coldfuse.trust.tls import TlsFiles


class ColumnNames(TypedDict):
    """Columns of a table, as they are read."""

    text_column: str | None
    text_pair_column: str | None
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


def columns_of(columns: Columns) -> ColumnNames:
    """Return the columns as arguments of what reads tables."""
    return ColumnNames(
        text_column=columns.text_column, text_pair_column=columns.text_pair_column, label_column=columns.label_column
    )


@contextmanager
def connect(source: str, connection: Connection) -> Iterator[Gateway]:
    """Connect to a federation, in a store or at an address; say on standard error what an address is waited for."""
    pace = Pace()
    contact = Contact(source, connection.patience, lambda _, message: _warn(message) if pace.is_due() else None)
    gateway = transport.connect(
        source, tls=tls_of(connection), insecure=connection.insecure, retry_s=parse_duration(connection.patience),
        on_trouble=contact.trouble,
    )  # fmt: skip
    with gateway:
        if transport.is_address(source):
            contact.make(gateway)
        yield gateway


def _warn(message: str) -> None:
    typer.echo(f"coldfuse: {message}", err=True)
