"""Who calls: a member whose signature was verified, or an address; and what a certificate vouches for.

Whatever is divided among callers is divided among members. Strangers, where there are members, count as one: however
many addresses they have, together they have one caller's share. So do former members. In open federations, where names
are to be had for nothing, who contributes counts by address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.names import id_of
from coldfuse.errors import ContributionRejectedError, NotAllowedError
from coldfuse.trust.rights import Asker

STRANGERS = "strangers"
"""Key that all strangers share where there are members: no address, and no name of a member's."""

_IPV6_NETWORK_BITS = 64
"""Whoever has one IPv6 address usually has a whole network of this size."""

_NAME_KEYS = ("x509_common_name", "x509_subject_alternative_name")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls, as far as it is known."""

    address: str
    """Where the call comes from, see `caller_of`."""
    asker: Asker | None = None
    """Who has signed; None for strangers, and in federations without a root."""
    is_stranger: bool = False
    """True for whoever is no member (any more) of a federation that has members."""

    @property
    def key(self) -> str:
        """Who shares one caller's limits."""
        if self.is_stranger:
            return STRANGERS
        if self.asker is None or self.asker.role is None:
            return self.address
        return f"member {self.asker.name}"

    @property
    def is_operator(self) -> bool:
        """True for an operator of the federation."""
        return self.asker is not None and self.asker.role == "operator"


def caller_of(peer: str) -> str:
    """Return who shares one caller's limits, from gRPC's name of the other end.

    >>> caller_of("ipv4:10.0.0.7:51234"), caller_of("ipv6:%5B2001:db8:0:1::7%5D:51234"), caller_of("unix:")
    ('10.0.0.7', '2001:db8:0:1::/64', 'unix:')
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))


def names_of(auth_context: Mapping[str, Iterable[bytes]]) -> list[str]:
    """Return the names that a caller's certificate vouches for; none without one.

    >>> names_of({"x509_common_name": [b"alice"], "x509_subject_alternative_name": [b"alice.example.org"]})
    ['alice', 'alice.example.org']
    """
    values = (value for key in _NAME_KEYS for value in auth_context.get(key, ()))
    return list(dict.fromkeys(value.decode("utf-8", "replace") for value in values if value))


def check_names(manifest: ContributionManifest, names: Iterable[str]) -> None:
    """Refuse a contribution under another name than those of its sender's certificate.

    Raises:
        ContributionRejectedError: The certificate is somebody else's.
    """
    known = list(names)
    if manifest.contributor in {id_of(name) for name in known if name}:
        return
    shown = ", ".join(map(repr, known)) or "nobody"
    raise ContributionRejectedError(
        f"the certificate is for {shown}, and the contribution is of {manifest.contributor!r}; contribute under a name "
        "that the certificate has as its common name (CN) or as an alternative name (SAN), with --name"
    )


def check_contributor(manifest: ContributionManifest, asker: Asker) -> None:
    """Refuse a contribution of somebody else than who hands it in.

    Raises:
        NotAllowedError: The manifest names another member.
    """
    if manifest.contributor != asker.name:
        raise NotAllowedError(
            f"{asker.name}: hands in a contribution of {manifest.contributor!r}; everybody contributes under their own "
            "name, with their own key"
        )


def check_member(name: str, asker: Asker | None, *, what: str) -> None:
    """Refuse what a member alone can do for themselves. Raises `NotAllowedError`."""
    if asker is not None and asker.name != name:
        raise NotAllowedError(f"{asker.name}: {what} of {name}; everybody does that for themselves alone")
