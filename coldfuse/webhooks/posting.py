"""Handing one message to one address: no redirect is followed, little is read, and nobody waits for long.

Whoever can change a federation's settings names the address, and this machine may reach more than they can. So an
address in a private network, or of this machine, is refused unless who runs the aggregator allows it; and the one that
was looked up is the one that is connected to, whatever the name leads to a moment later.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from coldfuse.errors import TransportError

_STEP_S = 10.0
"""Seconds that anything on the line may take: connecting, or the next bytes of an answer."""

DEADLINE_S = 30.0
"""Seconds after which an answer is given up, however it drips."""

_MAX_ANSWER_BYTES = 2048
"""Bytes of an answer that are read; what it says is of no interest."""

_HTTPS_PORT, _HTTP_PORT = 443, 80
_MAX_ADDRESSES = 4
"""Addresses of a host that are tried."""

_EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
"""Networks whose last 32 bits are an address of IPv4."""

_LOCAL_TRANSLATION = ipaddress.IPv6Network("64:ff9b:1::/48")
"""For translators of one's own, RFC 8215: not of the internet, whatever Python's version says of it."""

_OK, _REDIRECT, _WRONG = 200, 300, 400


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allows_private: bool, deadline_s: float = DEADLINE_S
) -> int:
    """Send a message, and return the status of the answer, whatever that is.

    Args:
        url: The address, checked before.
        body: The message.
        headers: Its headers.
        allows_private: Whether the address may be in a private network, or this machine's.
        deadline_s: Seconds after which it is given up.

    Raises:
        TransportError: It did not arrive, or there was no answer in time.
    """
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (_HTTPS_PORT if is_tls else _HTTP_PORT)
    addresses = _addresses_of(host, port, allows_private=allows_private)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    line = _Line(host, port, is_tls=is_tls)
    timer = threading.Timer(deadline_s, line.cut)
    timer.daemon = True
    timer.start()
    try:
        connection = line.connect(addresses)
        connection.request(
            "POST", target, body=body, headers={"Host": parts.netloc} | dict(headers), preload_content=False
        )
        answer = connection.getresponse()
        answer.read(_MAX_ANSWER_BYTES, decode_content=False)
        if line.is_over:
            raise TransportError(f"{host}: has not answered within {deadline_s:g} s")
        return answer.status
    except (HTTPError, OSError, ValueError) as error:
        raise TransportError(f"{host}: {type(error).__name__}: {str(error)[:200]}") from error
    finally:
        timer.cancel()
        line.close()


class _Line:
    """The line to a host, by the first of its addresses that answers: a machine may have no IPv6, and names of it."""

    def __init__(self, host: str, port: int, *, is_tls: bool) -> None:
        self._host, self._port, self._is_tls = host, port, is_tls
        self._connection: HTTPConnection | None = None
        self.is_over = False

    def connect(self, addresses: Sequence[str]) -> HTTPConnection:
        """Return the connection; raises what the last address has said where none takes it."""
        for place, address in enumerate(addresses, start=1):
            connection = self._connection = self._to(address)
            try:
                connection.connect()
                return connection
            except (HTTPError, OSError):
                connection.close()
                if place == len(addresses) or self.is_over:
                    raise
        raise OSError("there is no address of it")

    def cut(self) -> None:
        """End what waits on it, from another thread."""
        self.is_over = True
        try:
            if self._connection is not None and self._connection.sock is not None:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended by itself

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()

    def _to(self, address: str) -> HTTPConnection:
        if not self._is_tls:
            return HTTPConnection(address, self._port, timeout=_STEP_S)
        host = self._host
        return HTTPSConnection(address, self._port, timeout=_STEP_S, server_hostname=host, assert_hostname=host)


def explain(status: int) -> str:
    """Say what an answer means that is no success."""
    if _REDIRECT <= status < _WRONG:
        return f"answered {status}: it leads elsewhere, and nobody follows; name the address itself"
    return f"answered {status}"


def is_taken(status: int) -> bool:
    """Tell whether an answer says that the message was taken."""
    return _OK <= status < _REDIRECT


def _addresses_of(host: str, port: int, *, allows_private: bool) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TransportError(f"{host}: no address is known of it: {error}") from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    if not allows_private and not all(map(is_public, addresses)):
        raise TransportError(
            f"{host}: is on this machine or in a private network; start the aggregator with --webhook-private if that "
            "is meant"
        )
    return addresses[:_MAX_ADDRESSES]


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet's, by whatever gateway or translator it leads there.

    >>> is_public("1.1.1.1"), is_public("64:ff9b::7f00:1"), is_public("::127.0.0.1")
    (True, False, False)
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if not found.is_global or found.is_multicast:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return True
    inner = found.ipv4_mapped or found.sixtofour or _translated(found)
    return not found.is_site_local and (inner is None or inner.is_global) and found not in _LOCAL_TRANSLATION


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return what a NAT64 makes of an address (RFC 6052), or what an IPv4-compatible one meant; None for others."""
    if any(address in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
