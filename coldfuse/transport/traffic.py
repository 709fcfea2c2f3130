"""Which of the bytes that a connection brought belong to a call that somebody reads.

What is left over are headers without end, pings and settings: gRPC keeps each header of a call until the call is
complete, at ten times its length, whatever limit the headers have. A connection that brings more of these than any
client does is closed (see `connections`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote

from coldfuse.transport.channel import MAX_REQUEST_BYTES, WINDOW_BYTES

Place = tuple[str, int]
"""Address and port of the other end of a connection."""

_CALL_BYTES = 2 << 10
"""What the headers of a call take, and its acknowledgements."""

_MESSAGE_BYTES = 64
"""What a message takes beside its bytes."""

_SPARE_BYTES = 128 << 10
"""What a connection may bring beside its calls: a handshake, settings, pings."""

_OVERHEAD = 1.1
"""What TLS and small frames add."""

_SENT_FOR_ONE_RECEIVED = 256
"""How many bytes are sent for each byte by which a reader says that there is room for more."""


@dataclass
class _Explained:
    num_bytes: int = 0
    num_open: int = 0
    num_pending: int = 0


class Traffic:
    """Counts what is read, by connection. The event loop writes, and the doorkeeper's thread reads."""

    def __init__(self) -> None:
        self._explained: dict[Place, _Explained] = {}

    def begin(self, place: Place | None) -> None:
        """Take note of a call."""
        if place is not None:
            known = self._explained.setdefault(place, _Explained())
            known.num_open += 1
            known.num_bytes += _CALL_BYTES

    def end(self, place: Place | None) -> None:
        """Take note that a call is over, with what it has not read."""
        if place is not None and (known := self._explained.get(place)) is not None:
            known.num_open -= 1

    def await_message(self, place: Place | None) -> None:
        """Take note that somebody waits for a message, which may be as long as messages are."""
        if place is not None and (known := self._explained.get(place)) is not None:
            known.num_pending += 1

    def read(self, place: Place | None, num_bytes: int | None) -> None:
        """Take note of a message that was waited for; None: none came, or it was cut off anywhere in it."""
        if place is not None and (known := self._explained.get(place)) is not None:
            known.num_pending -= 1
            known.num_bytes += MAX_REQUEST_BYTES if num_bytes is None else num_bytes + _MESSAGE_BYTES

    def is_explained(self, place: Place, *, received: int, sent: int) -> bool:
        """Tell whether a connection brought what calls need, or little more.

        >>> Traffic().is_explained(("10.0.0.1", 1), received=10_000, sent=0)
        True
        >>> Traffic().is_explained(("10.0.0.1", 1), received=1_000_000, sent=0)
        False
        """
        known = self._explained.get(place) or _Explained()
        unread = known.num_open * WINDOW_BYTES + known.num_pending * MAX_REQUEST_BYTES
        return received <= _SPARE_BYTES + sent // _SENT_FOR_ONE_RECEIVED + _OVERHEAD * (known.num_bytes + unread)

    def forget(self, alive: Collection[Place]) -> None:
        """Forget connections that are over and have no call."""
        for place, known in list(self._explained.items()):
            if place not in alive and known.num_open <= 0:
                self._explained.pop(place, None)


def place_of(peer: str) -> Place | None:
    """Return a connection's other end, from gRPC's name of it; None where that is no address.

    >>> place_of("ipv4:10.0.0.1:80"), place_of("ipv6:%5B::ffff:10.0.0.1%5D:80"), place_of("unix:")
    (('10.0.0.1', 80), ('10.0.0.1', 80), None)
    """
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return str(getattr(address, "ipv4_mapped", None) or address), int(port)
