"""Addresses of gateways: `host:port`, with brackets around IPv6 (`[::1]:50051`)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from coldfuse.errors import UserInputError


@dataclass(frozen=True)
class Address:
    """Where a gateway listens.

    >>> Address("::1", 50051).text, Address("::1", 50051).is_loopback, Address("example.org", 443).is_loopback
    ('[::1]:50051', True, False)
    """

    host: str
    port: int

    @property
    def text(self) -> str:
        """The form that people write and gRPC takes."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True where what is sent never leaves this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def is_meant_as_address(text: str) -> bool:
    """Tell whether somebody who wrote this may have meant an address: a URL of another scheme, a port, a bare host.

    >>> [is_meant_as_address(text) for text in ("http://host:1", "host:70000", "127.0.0.1", "./federation", "s3://a/b")]
    [True, True, True, False, False]
    """
    scheme, _, rest = text.rpartition("://")
    if scheme:
        return scheme in ("http", "https", "grpc", "grpcs", "tcp", "dns")
    head, tail = rest.partition("/")[0].rpartition(":")[::2]
    return bool(head and tail.isdecimal()) or Address(rest, 0).is_loopback or _is_ip(rest)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_address(text: str) -> Address:
    """Read `host:port`.

    Raises:
        UserInputError: The text is no address.

    >>> parse_address("127.0.0.1:0")
    Address(host='127.0.0.1', port=0)
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    is_host = bool(bare) and not any(c in "/[]@ \t\n" for c in bare) and (":" in bare) == bracketed
    if not (colon and is_host and port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 1 << 16):
        raise UserInputError(
            f"{text[:300]!r} is not an address: expected HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051"
        )
    return Address(bare, int(port))
