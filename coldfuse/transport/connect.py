"""From what a user names a federation by to a gateway: a store (folder or s3://…) or an address (host:port)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.gateway import Gateway, StoreGateway
from coldfuse.registry.federation import open_federation
from coldfuse.storage import open_store
from coldfuse.transport.address import is_meant_as_address, parse_address
from coldfuse.trust.tls import TlsFiles

if TYPE_CHECKING:
    from coldfuse.trust.identity import Identity


def connect(
    source: str,
    *,
    tls: TlsFiles | None = None,
    insecure: bool = False,
    retry_s: float = 120.0,
    on_trouble: Callable[[ColdfuseError], None] | None = None,
    identity: Identity | None = None,
) -> Gateway:
    """Return a gateway on a store, or to an address. Close it, or use it as a context manager.

    Args:
        source: A folder, `s3://bucket/prefix`, or `host:port`.
        tls: Certificates for an address, see `GatewayClient`.
        insecure: Speak plain text to other hosts, too.
        retry_s: How long to try while an address is out of reach.
        on_trouble: Called with each failure that is followed by another try, by any thread.
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
        return StoreGateway(open_federation(open_store(source)))
    from coldfuse.transport.client import GatewayClient  # gRPC takes a while, and a store needs none of it

    return GatewayClient(
        source, tls=tls, insecure=insecure, retry_s=retry_s, on_trouble=on_trouble, identity=identity
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
