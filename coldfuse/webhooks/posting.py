"""Handing one message to one address: no redirect is followed, little is read, and nobody waits for long.

Whoever can change a federation's settings names the address, and this machine may reach more than they can. So an
address in a private network, or of this machine, is refused unless who runs the aggregator allows it; and the one that
was looked up is the one that is connected to, whatever the name leads to a moment later.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Mapping
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
    address = _address_of(host, port, allows_private=allows_private)
    connection = (
        HTTPSConnection(address, port, timeout=_STEP_S, server_hostname=host, assert_hostname=host)
        if is_tls
        else HTTPConnection(address, port, timeout=_STEP_S)
    )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    is_over = threading.Event()
    timer = threading.Timer(deadline_s, _cut, [connection, is_over])
    timer.daemon = True
    timer.start()
    try:
        connection.request(
            "POST", target, body=body, headers={"Host": parts.netloc} | dict(headers), preload_content=False
        )
        answer = connection.getresponse()
        answer.read(_MAX_ANSWER_BYTES, decode_content=False)
        if is_over.is_set():
            raise TransportError(f"{host}: has not answered within {deadline_s:g} s")
        return answer.status
    except (HTTPError, OSError, ValueError) as error:
        raise TransportError(f"{host}: {type(error).__name__}: {str(error)[:200]}") from error
    finally:
        timer.cancel()
        connection.close()


def explain(status: int) -> str:
    """Say what an answer means that is no success."""
    if _REDIRECT <= status < _WRONG:
        return f"answered {status}: it leads elsewhere, and nobody follows; name the address itself"
    return f"answered {status}"


def is_taken(status: int) -> bool:
    """Tell whether an answer says that the message was taken."""
    return _OK <= status < _REDIRECT


def _address_of(host: str, port: int, *, allows_private: bool) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TransportError(f"{host}: no address is known of it: {error}") from error
    addresses = [str(each[4][0]) for each in found]
    if not allows_private and not all(map(_is_public, addresses)):
        raise TransportError(
            f"{host}: is on this machine or in a private network; start the aggregator with --webhook-private if that "
            "is meant"
        )
    return addresses[0]


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return found.is_global and not found.is_multicast and (inner is None or inner.is_global)


def _cut(connection: HTTPConnection, is_over: threading.Event) -> None:
    """End what waits on a connection, from another thread."""
    is_over.set()
    try:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended by itself
