"""Where the channels point: signed, valid, and not older than what is there or was seen before."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.core.release import Channel
from coldfuse.core.sealed import unseal
from coldfuse.errors import CodecError, TrustError
from coldfuse.storage.base import list_keys
from coldfuse.trust.channel import SignedChannel, read_channel, require_current
from coldfuse.trust.seen import Seen, with_channel
from coldfuse.trust.view import SKEW_S
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.journals import SeenRound
from coldfuse.verification.releases import SeenRelease
from coldfuse.verification.rules import is_envelope
from coldfuse.verification.signers import Signers

FOLDER = "channels/"


def look_at_channels(look: Inspection, signers: Signers | None, *, seen: Seen) -> dict[str, Channel]:
    """Look at every channel; return those that can be believed, by their names.

    Args:
        look: The store, and where findings are noted.
        signers: Who may have signed them; None where nothing is signed.
        seen: What was seen before.
    """
    found: dict[str, Channel] = {}
    for key in list_keys(look.store, FOLDER):
        data = look.read(key) or b""
        look.looked_at["channels"] += 1
        name = key.removeprefix(FOLDER)
        try:
            if signers is None:
                found[name] = unseal(Channel, data, what=key)
            elif is_envelope(look, data, key):
                channel = read_channel(data, name, root=signers.newest, federation=signers.fingerprint)
                found[name] = channel
                with_channel(seen, channel)
                require_current(channel, now_s=look.at_s)
        except (TrustError, CodecError) as error:
            look.error(key, error)
    if "latest" not in found and f"{FOLDER}latest" not in look.keys:
        look.add(Cause.GAP, f"{FOLDER}latest", "is missing: nobody knows which release is the latest")
    return found


def look_for_rollbacks(
    look: Inspection, latest: Channel | None, releases: Mapping[int, SeenRelease], rounds: Mapping[int, SeenRound]
) -> None:
    """Find a `latest` that is older than a release which the journal says was published.

    Versions of channels are seconds since 1970 or more: one that was put back has a version from before what it hides.
    """
    if latest is None:
        return
    for number, release in sorted(releases.items()):
        round_ = rounds.get(release.manifest.round)
        if number <= latest.release or round_ is None or round_.state.published is None:
            continue
        made_s = release.manifest.created_at_s
        if not isinstance(latest, SignedChannel) or latest.version + SKEW_S < made_s:
            look.add(
                Cause.ROLLED_BACK, f"{FOLDER}latest",
                f"points to release {latest.release}, and is older than release {number}, which was published",
            )  # fmt: skip


def look_at_target(look: Inspection, name: str, channel: Channel, release: SeenRelease | None) -> None:
    """Compare a channel with the release that it points to."""
    key = f"{FOLDER}{name}"
    if release is None:
        look.add(Cause.GAP, key, f"points to release {channel.release}, which is not there")
        return
    said = channel.release, channel.round, channel.manifest, channel.model_digest
    own = release.number, release.manifest.round, release.digest, release.manifest.model_digest
    if said != own:
        look.add(Cause.DIGEST, key, f"points to another release {channel.release} than the one that is there")
