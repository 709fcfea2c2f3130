"""The other end of a connection: where it is, how it is reached, and who hears that it is waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.proxies import Proxy, grpc_proxy
from coldfuse.transport.address import Address
from coldfuse.transport.handshake import find_disagreement
from coldfuse.trust.following import Followed, follow
from coldfuse.trust.tls import TlsFiles, say_if_ending

OnTrouble = Callable[[ColdfuseError], None]
"""on_trouble(error): a call has failed, and is tried again; any thread may call it."""


@dataclass(frozen=True)
class Peer:
    """A gateway, as its client sees it."""

    text: str
    """Address, as people write it."""
    is_plain: bool = True
    """True where no TLS is spoken."""
    proxy: Proxy | None = None
    """Proxy that the connection goes through."""
    on_trouble: OnTrouble | None = None
    """Callback for each failure that is followed by another try."""
    tls: Followed | None = None
    """This end's certificates; None: those that the machine knows."""
    find_disagreement: Callable[[], str | None] = lambda: None
    """Says, slowly, what both ends have to agree on before any try can succeed; None where nothing is found."""


def find_peer(address: Address, *, tls: TlsFiles | None, insecure: bool, on_trouble: OnTrouble | None = None) -> Peer:
    """Say how a gateway is reached: with TLS, but for loopback, where it is used only if files are given.

    Raises:
        UserInputError: A proxy would get everything in plain text, or the certificates cannot be used.
    """
    is_plain = tls is None and (insecure or address.is_loopback)
    proxy = grpc_proxy(address.host)
    if is_plain and proxy is not None:
        raise UserInputError(
            f"{address.text}: would be reached in plain text through the proxy {proxy}, which could read and change "
            f"everything; use TLS, or name {address.host} in no_proxy to go there directly"
        )

    followed = follow(tls, whose="this end")

    def disagreement() -> str | None:
        return _ended(followed) or find_disagreement(
            address, is_plain=is_plain, tls=tls, proxy=None if proxy is None else proxy.place
        )

    return Peer(address.text, is_plain, proxy, on_trouble, followed, disagreement)


def _ended(tls: Followed | None) -> str | None:
    """Say that this end's certificate has expired, of which a gateway says nothing but that it takes none such."""
    validity = None if tls is None else tls.newest().validity
    if tls is None or validity is None or validity.end > (now := datetime.now(UTC)):
        return None
    return say_if_ending(tls.files.cert, validity, now)
