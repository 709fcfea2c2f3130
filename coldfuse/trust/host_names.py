"""By which names a gateway may be called, as its certificate lists them."""

from __future__ import annotations

import ipaddress
import re

from coldfuse.errors import UserInputError

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
"""What stands between two dots; names in a cluster of containers may have underscores."""

_MAX_CHARS = 253
_EXAMPLES = "such as gateway.example.org or 192.0.2.7"


def host_of(text: str) -> str:
    """Return a name or an IP address in the form in which a certificate holds it.

    >>> [host_of(text) for text in ("GW.Example.org.", "*.example.org", "[2001:DB8:0::1]", "192.0.2.7")]
    ['gw.example.org', '*.example.org', '2001:db8::1', '192.0.2.7']

    Raises:
        UserInputError: Nobody can call a gateway by this.
    """
    bare = text.strip().lower()
    bare = bare[1:-1] if bare.startswith("[") and bare.endswith("]") else bare.removesuffix(".")
    address = _address(bare)
    reason = _why_no_name(bare) if address is None else _why_no_address(address)
    if reason is not None:
        raise UserInputError(f"--host {text[:300]!r}: {reason}; give what callers call the gateway by, {_EXAMPLES}")
    return bare if address is None else str(address)


def is_address(host: str) -> bool:
    """Tell an IP address from a name."""
    return _address(host) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _why_no_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    if getattr(address, "scope_id", None):
        return "it has a zone (%), which holds on one machine only"
    if address.is_unspecified or address.is_multicast:
        return "nobody can be called by this address"
    return None


def _why_no_name(name: str) -> str | None:
    if not name:
        return "it is empty"
    if "/" in name:
        return "it is a URL or a path"
    if ":" in name:
        return "it has a port, or is no IP address"
    if not name.isascii():
        return _why_not_ascii(name)
    if len(name) > _MAX_CHARS:
        return f"it has {len(name)} characters, and names have at most {_MAX_CHARS}"
    return _why_no_labels(name.split("."))


def _why_not_ascii(name: str) -> str:
    try:
        return f"it is not ASCII, and is written {name.encode('idna').decode()!r} in a certificate"
    except UnicodeError:
        return "it is no name of a host"


def _why_no_labels(labels: list[str]) -> str | None:
    if "*" in "".join(labels):
        if labels[0] != "*" or len(labels) < 3 or "*" in "".join(labels[1:]):
            return "a '*' can only be the whole first word, before a domain: *.example.org"
        labels = labels[1:]
    if not all(map(_LABEL.fullmatch, labels)):
        return "it is no name of a host"
    if labels[-1].isdecimal():  # also what was meant as an address, and is none
        return "it is no IP address, and names do not end in a number"
    return None
