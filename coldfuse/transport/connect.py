"""From what a user names a federation by to a gateway: a store (folder or s3://…) or an address (host:port)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.config import home_folder
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.gateway import Gateway, StoreGateway
from coldfuse.registry.federation import open_federation
from coldfuse.storage import open_store
from coldfuse.transport.address import is_meant_as_address, parse_address
from coldfuse.trust.tls import TlsFiles

if TYPE_CHECKING:
    from coldfuse.trust.identity import Identity


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How an address is reached; a store needs none of it."""

    tls: TlsFiles | None = None
    """Certificates, see `GatewayClient`."""
    insecure: bool = False
    """True to speak plain text to other hosts, too."""
    retry_s: float = 120.0
    """Seconds for which an address that is out of reach is tried."""
    on_trouble: Callable[[ColdfuseError], None] | None = None
    """Called with each failure that is followed by another try, by any thread."""
    secret: str | None = None
    """Shows the gateway which parts came from here before, see `GatewayClient`."""


def connect(source: str, reach: Reach = Reach(), *, identity: Identity | None = None) -> Gateway:
    """Return a gateway on a store, or to an address, unverified. Close it, or use it as a context manager.

    Args:
        source: A folder, `s3://bucket/prefix`, or `host:port`.
        reach: How an address is reached.
        identity: As whom requests to an address are signed; None: as nobody.

    Raises:
        UserInputError: The source names neither a store nor an address.
        FederationError: The store holds no federation.
    """
    if not is_address(source):
        if is_meant_as_address(source) and not Path(source).exists():
            raise UserInputError(
                f"{source!r} is neither an address nor a store: expected HOST:PORT, such as 127.0.0.1:7700 (without "
                "http://), a folder, or s3://BUCKET/PREFIX"
            )
        return StoreGateway(open_federation(open_store(source), home=home_folder()))
    from coldfuse.transport.client import GatewayClient  # gRPC takes a while, and a store needs none of it

    return GatewayClient(
        source, tls=reach.tls, insecure=reach.insecure, retry_s=reach.retry_s, on_trouble=reach.on_trouble,
        secret=reach.secret, identity=identity,
    )  # fmt: skip


def is_address(source: str) -> bool:
    """Tell an address from a folder or a bucket: `host:port`, unless there is such a folder.

    >>> is_address("127.0.0.1:7700"), is_address("./federation"), is_address("s3://bucket/prefix")
    (True, False, False)
    """
    try:
        parse_address(source)
    except UserInputError:
        return False
    return not Path(source).exists()
