"""Where the channels of a federation point, as whoever asks a gateway can know it."""

from __future__ import annotations

from pathlib import Path

from coldfuse.consumer.changes import find_change
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.rollback import Rollback
from coldfuse.core.sealed import unseal
from coldfuse.errors import CodecError, FederationError, UserInputError
from coldfuse.gateway import Gateway
from coldfuse.registry.channels import CHANNELS
from coldfuse.trust.channel import channel_key


def read_channels(gateway: Gateway) -> dict[str, Channel]:
    """Return the channels that there are, by their names; verified where the federation is known by its root.

    Raises:
        TrustError: One is not signed as it has to be, or older than what was seen before.
    """
    found = {name: read_channel_of(gateway, name) for name in CHANNELS}
    return {name: channel for name, channel in found.items() if channel is not None}


def read_channel_of(gateway: Gateway, name: str) -> Channel | None:
    """Return where a channel points; None where there is no such channel, or it cannot be read. Raises as above."""
    if isinstance(gateway, TrustedGateway):
        try:
            return gateway.belief.channel(name)
        except FederationError:
            return None
    data = gateway.read_signed(channel_key(name))
    try:
        return unseal(Channel, data, what=f"channel {name}") if data is not None else None
    except CodecError:  # it is damaged, or signed and nobody here knows by whom
        return None


def check_change(
    source: object,
    out: Path,
    held: ReleaseManifest | None,
    manifest: ReleaseManifest,
    *,
    which: int | str,
    allow_older: bool,
) -> str | None:
    """Return what is no step forward for a folder; None where it is one.

    Args:
        source: Where the release comes from.
        out: The folder.
        held: The release in it, if there is one.
        manifest: The release that is to be put there.
        which: The channel by which it was asked for, or its number.
        allow_older: Whether a channel is followed back also where nobody has signed that.

    Raises:
        UserInputError: The channel has gone back, and nobody is known to have meant it.
    """
    change = find_change(held, manifest, by_number=isinstance(which, int))
    if change is None or held is None or not change.is_back or not isinstance(which, str):
        return change.text if change else None
    is_older = manifest.release < held.release  # another model of the same number nobody means
    if is_older and (why := _signed_step_back(source, which, held)) is not None:
        return f"the federation is at release {manifest.release}, and was at {held.release} before: {why}"
    if not allow_older:
        raise UserInputError(
            f"{out}: {change.text}; nothing was changed, give --allow-older to take it (allow_older=True in Python), "
            "or its number"
        )
    return change.text


def _signed_step_back(source: object, which: str, held: ReleaseManifest) -> str | None:
    """Return in words why a channel is behind a release, by who may say so; None: nobody has.

    A channel that is signed is never older than what was seen before, so what it goes back to its signer meant.
    """
    if not isinstance(source, TrustedGateway):
        return None
    rollback = source.belief.channel("latest").rollback
    if rollback is not None and held.release <= rollback.newest:
        return str(rollback)
    return None if which == "latest" or source.folder is None else f"its operator has put {which} back"


def is_undone(gateway: Gateway, *, round_number: int, base: tuple[int, str]) -> bool:
    """Tell whether what a round has made of a contribution was rolled back, to the very release that it was made from.

    Then the federation begins on that release anew, and the contribution counts if it is sent again.

    Args:
        gateway: Whom to ask.
        round_number: The round that it went to.
        base: Number and model digest of the release that it was made from.
    """
    channel = read_channel_of(gateway, "latest")
    rollback: Rollback | None = channel.rollback if channel is not None else None
    if channel is None or rollback is None or (channel.release, channel.model_digest) != base:
        return False
    return rollback.release == channel.release and round_number <= rollback.round
