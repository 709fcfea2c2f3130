"""Which proxy of the environment a connection goes through: none for this machine, whatever the variables say.

A proxy for loopback gets what should never have left the machine, or nobody answers. gRPC reads the variables itself,
in lower case only; here stands the same decision, made before it, so that messages can name the variable.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from coldfuse.config import proxy_variables

_GRPC_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_GRPC_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
"""The variables in the order in which gRPC looks for them; the first that is set counts."""


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the variable that names it."""

    variable: str
    place: str
    """Host and port, without a password that may stand before them."""

    def __str__(self) -> str:
        """Say both."""
        return f"{self.place} (of the variable {self.variable})"


def grpc_proxy(host: str) -> Proxy | None:
    """Return the proxy through which gRPC reaches a host; None where it goes there itself."""
    variables = proxy_variables()
    variable = next((name for name in _GRPC_PROXIES if name in variables), None)
    if variable is None:
        return None
    url = _split(variables[variable])
    if url is None or url.scheme != "http" or not url.hostname:  # what gRPC cannot use it leaves alone
        return None
    exceptions = next((variables[name] for name in _GRPC_EXCEPTIONS if name in variables), "")
    if _is_excepted(host, exceptions) or is_this_machine(host):
        return None
    return Proxy(variable, f"{url.hostname}:{url.port}" if url.port else url.hostname)


def is_this_machine(host: str) -> bool:
    """Tell whether a host is this machine: an address of loopback, or a name that has no other address."""
    if (address := _address(host)) is not None:
        return _is_loopback(address)
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    addresses = [_address(str(info[4][0]).partition("%")[0]) for info in found]
    return bool(addresses) and all(each is not None and _is_loopback(each) for each in addresses)


def _is_excepted(host: str, exceptions: str) -> bool:
    """Tell whether `no_proxy` names a host: itself, a domain that it is in, a range of addresses, or everything."""
    names = [each.strip() for each in exceptions.lower().split(",")]
    domains = [name.lstrip("*").lstrip(".") for name in names]
    host = host.lower()
    if "*" in names or any(domain and (host == domain or host.endswith(f".{domain}")) for domain in domains):
        return True
    address = _address(host)
    return address is not None and any(_is_in(address, name) for name in names)


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_loopback or address.is_unspecified  # 0.0.0.0 is where a server listens, and leads back here


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # checks it
    except ValueError:
        return None
    return parts
