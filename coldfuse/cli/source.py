"""What a user names a federation by (a store: folder or s3://…, or a gateway's address: host:port)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import typer

from coldfuse.api.opening import Identify, open_gateway
from coldfuse.cli.contact import Contact
from coldfuse.cli.options.shared import Connection
from coldfuse.cli.pace import Pace
from coldfuse.cli.units import parse_duration
from coldfuse.config import home_folder
from coldfuse.consumer.anchors import require_known
from coldfuse.gateway import Gateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import open_store, wait_for
from coldfuse.transport.connect import Reach, is_address
from coldfuse.trust.tls import TlsFiles


def open_store_of(source: str, *, root: str | None = None) -> Federation:
    """Open the federation in a store; `root` is its fingerprint, where the user has said it."""
    return open_federation(open_store(source), fingerprint=root, home=home_folder())


def start_on(source: str, *, root: str | None = None) -> Federation:
    """Open the federation in a store for a service: a store that is away is waited for, with a word."""
    federation = wait_for(lambda: open_store_of(source, root=root), warn)
    if root is None:
        require_known(federation.settings.root, source, home=home_folder())
    return federation


def tls_files(ca: Path | None, cert: Path | None, key: Path | None) -> TlsFiles | None:
    """Return the certificates that were given, if any."""
    return TlsFiles(ca=ca, cert=cert, key=key) if ca or cert or key else None


def tls_of(connection: Connection) -> TlsFiles | None:
    """Return the certificates that were given, if any."""
    return tls_files(connection.tls_ca, connection.tls_cert, connection.tls_key)


@contextmanager
def connect(source: str, connection: Connection, *, identify: Identify | None = None) -> Iterator[Gateway]:
    """Connect to a federation, in a store or at an address; say on standard error what an address is waited for.

    Args:
        source: The store or the address.
        connection: How an address is reached, and by what the federation is known.
        identify: Says as whom it is asked; None: as the member that this user is.
    """
    pace = Pace()
    contact = Contact(source, connection.patience, lambda _, message: warn(message) if pace.is_due() else None)
    with contact.made() if is_address(source) else nullcontext():
        gateway = open_gateway(
            source, reach_of(connection, contact), root=connection.root, identify=identify, warn=warn
        )
    with gateway:
        yield gateway


def reach_of(connection: Connection, contact: Contact, *, secret: str | None = None) -> Reach:
    """Return how an address is reached, by what was given."""
    return Reach(
        tls=tls_of(connection), insecure=connection.insecure, retry_s=parse_duration(connection.patience),
        on_trouble=contact.trouble, secret=secret,
    )  # fmt: skip


def warn(message: str) -> None:
    """Say something on standard error."""
    typer.echo(f"coldfuse: {message}", err=True)
