"""Where the channels point: signed, valid, and not older than what is there or was seen before."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.core.release import Channel
from coldfuse.core.rollback import Rollback
from coldfuse.core.sealed import unseal
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.errors import CodecError, TrustError
from coldfuse.registry.rollbacks import rollback_key
from coldfuse.storage.base import list_keys
from coldfuse.trust.channel import SignedChannel, read_channel, require_current
from coldfuse.trust.envelope import read_envelope
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
    """Find a `latest` that is older than a release which the journal says was published; a step back says so itself.

    Versions of channels are seconds since 1970 or more: one that was put back has a version from before what it hides.
    """
    if latest is None:
        return
    for number, release in sorted(releases.items()):
        round_ = rounds.get(release.manifest.round)
        if number <= latest.newest or round_ is None or round_.state.published is None:
            continue
        made_s = release.manifest.created_at_s
        if not isinstance(latest, SignedChannel) or latest.version + SKEW_S < made_s:
            look.add(
                Cause.ROLLED_BACK, f"{FOLDER}latest",
                f"points to release {latest.release}, and is older than release {number}, which was published",
            )  # fmt: skip


def look_at_steps_back(look: Inspection, latest: Channel | None, signers: Signers | None) -> None:
    """Look at what was kept of the steps back of `latest`: each is named by the one after it, the last by the channel.

    A step was signed by the keys of its time; it is its digest that says that it is the one that was meant.
    """
    wanted = latest.rollback if latest is not None else None
    if wanted is not None and (data := look.read(key := rollback_key(wanted.number))) is not None:
        kept = _step_in(look, data, key, signers)
        if kept not in (None, wanted):
            look.add(Cause.DIGEST, key, "is another step back than the channel names")
    while wanted is not None:
        look.looked_at["steps back"] += 1
        if wanted.before is None:
            if wanted.number != 1:
                look.add(Cause.GAP, rollback_key(wanted.number), "names none before it, and is not the first")
            return
        key = rollback_key(wanted.number - 1)
        data = look.read(key)
        found = None if data is None else _step_in(look, data, key, signers)
        if data is None:
            look.add(Cause.GAP, key, "is missing: the history of steps back ends here")
        elif found is not None and sha256(encode(found)) != wanted.before:
            look.add(Cause.DIGEST, key, "is another step back than the one after it names")
            return
        wanted = found


def _step_in(look: Inspection, data: bytes, key: str, signers: Signers | None) -> Rollback | None:
    try:
        if signers is None:
            return unseal(Channel, data, what=key).rollback
        payload = read_envelope(data, what=key).content("channel", what=key)
        return decode(SignedChannel, payload, what=key).rollback
    except CodecError as error:
        look.error(key, error)
        return None


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
