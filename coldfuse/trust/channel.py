"""Channels as they are signed: where one points, and by what it is known to be the newest.

A signature alone stops nobody from handing out what was signed last month. So a channel has a version that only grows,
a time after which it is believed no more, its own name and its federation's, and the versions of root and members that
there were: whoever hides one of these is found out (TUF 1.0.34, 5.4 to 5.6: timestamp and snapshot in one, as one
pointer is what a federation swaps).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.release import Channel
from coldfuse.core.serialization import decode
from coldfuse.core.value import Digest, Name
from coldfuse.errors import CodecError, ExpiredError, RollbackError, SignatureError
from coldfuse.trust.reading import MAX_CHANNEL_BYTES
from coldfuse.trust.root import RoleName, Root
from coldfuse.trust.view import SKEW_S

SIGNERS: tuple[RoleName, ...] = ("aggregator", "operator")
"""Who may sign a channel: who makes releases and renews, and who promotes and goes back."""


class SignedChannel(Channel):
    """A pointer to a release, as it is signed."""

    name: Name
    """Name of the channel: what is signed as one is never taken for another."""
    version: Annotated[Count, Field(ge=1)]
    """Grows with every change and renewal."""
    expires_at_s: float
    """Seconds since 1970 after which it is believed no more."""
    federation: Digest
    """Fingerprint of the root."""
    root: Annotated[Count, Field(ge=1)]
    """Version of the root when it was signed."""
    members: Annotated[Count, Field(ge=1)]
    """Version of the list of members when it was signed."""


def channel_key(name: str) -> str:
    """Return the key of a channel."""
    return f"channels/{name}"


def read_channel(data: bytes, name: str, *, root: Root, federation: str) -> SignedChannel:
    """Return a channel, once who may has signed it; whether it is the newest is another question.

    Args:
        data: Its envelope.
        name: The name under which it lies.
        root: The newest root.
        federation: Fingerprint of the federation.

    Raises:
        SignatureError: It is signed by nobody who may, or as another channel or another federation's.
        CodecError: It is too long, or no channel.
        RollbackError: It names a newer root than there seems to be.
    """
    what = f"channel {name}"
    if len(data) > MAX_CHANNEL_BYTES:
        raise CodecError(f"{what}: {len(data):,} bytes, expected at most {MAX_CHANNEL_BYTES:,}; it is not read")
    found = decode(SignedChannel, _payload(data, root, what), what=what)
    if found.federation != federation:
        raise SignatureError(
            f"{what}: is signed for federation {found.federation[:16]}, expected {federation[:16]}: it was taken over "
            "from another federation"
        )
    if found.name != name:
        raise SignatureError(f"{what}: is signed as channel {found.name}, and lies in another's place")
    if found.root > root.version:
        raise RollbackError(
            f"{what}: was signed under root {found.root}, and the newest that is handed out is {root.version}; "
            "somebody hides the newer one"
        )
    return found


def _payload(data: bytes, root: Root, what: str) -> bytes:
    try:
        return root.verified(data, "channel", "aggregator", what=what)
    except SignatureError as refusal:
        try:
            return root.verified(data, "channel", "operator", what=what)
        except SignatureError:
            raise refusal from None


def require_current(channel: SignedChannel, *, now_s: float) -> None:
    """Raise `ExpiredError` if nobody has renewed a channel in time."""
    late_s = now_s - SKEW_S - channel.expires_at_s
    if late_s > 0:
        raise ExpiredError(
            f"channel {channel.name}: was to be renewed {_ago(late_s)} ago; the aggregator has stopped, or somebody "
            "hides what is newer: ask the operator (and look at this machine's clock)"
        )


def _ago(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days" if seconds > 2 * 86400 else f"{seconds / 3600:.1f} hours"
