"""Moving channels by hand: back to an older release, and `stable` to a release that has proved itself.

Each is one compare and swap of the channel: killed before it, nothing has changed, and after it, all is there. What
follows from a step back (the round that runs ends, `stable` steps back, too) the leader does as well, so that it comes
to be whoever is killed when.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.rollback import MAX_REASON_CHARS, Rollback
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.core.words import plural, printable
from coldfuse.errors import ConflictError, DamagedObjectError, FederationError, TrustError, UserInputError
from coldfuse.registry.collected import CollectedSoFar
from coldfuse.registry.damage import find_damage
from coldfuse.registry.federation import Federation
from coldfuse.registry.pointers import Pointer, plain_channel
from coldfuse.registry.published import find_manifest
from coldfuse.registry.releases import channel_to, release_key
from coldfuse.registry.retracted import brought_back
from coldfuse.registry.rollbacks import keep_rollback
from coldfuse.trust.channel import channel_key
from coldfuse.trust.keys import Signer

log = logging.getLogger(__name__)

STABLE = "stable"

_TRIES = 8
"""Number of times that a channel is read again which somebody else has moved meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step of a channel is to be."""

    before: Pointer | None
    """The channel as it was read; None: there is none yet."""
    target: Channel
    """Where it shall point."""

    @property
    def was(self) -> Channel | None:
        """Where it pointed; None: there was none, or nobody can tell."""
        return plain_channel(self.before.channel) if self.before and not self.before.is_damaged else None

    @property
    def is_done(self) -> bool:
        """Whether it points there already."""
        return self.was == self.target


def roll_back(
    federation: Federation, number: int, *, reason: str, by: str, signer: Signer | None, even_retracted: bool = False
) -> Channel:
    """Put `latest` back to a release; nothing is removed, and what was made since stays readable.

    Args:
        federation: The federation.
        number: Number of the release.
        reason: Why, for everybody.
        by: Who does it, for the history.
        signer: An operator's or the aggregator's key, where there is a root.
        even_retracted: Whether that may bring back what was retracted.

    Returns:
        The channel as it was written.

    Raises:
        UserInputError: It is the latest already, the reason is too long, or it would bring back what was retracted.
        FederationError: There is no such release.
        DamagedObjectError: Something of that release is damaged or missing.
        TrustError: It is signed by nobody who may, or the channel is.
        ConflictError: Others move the channel again and again.
    """
    for attempt in range(_TRIES):
        step = plan_rollback(
            federation, number, reason=reason, by=by, even_retracted=even_retracted, is_checked=attempt > 0
        )
        try:
            written = federation.pointers.write("latest", step.target, step.before, signer)
        except ConflictError:
            continue  # a release came out, say: what has to end is another round now
        keep_rollback(federation.store, federation.trust)
        return written
    raise ConflictError(f"{federation.store.url}: channel latest is moved again and again; try once more")


def plan_rollback(
    federation: Federation, number: int, *, reason: str, by: str, even_retracted: bool = False, is_checked: bool = False
) -> Step:
    """Return what `roll_back` would write, and raise as it; `is_checked`: the release's parts were read before."""
    if len(reason) > MAX_REASON_CHARS:
        raise UserInputError(f"reason: has {len(reason)} characters, expected at most {MAX_REASON_CHARS}")
    before = federation.pointers.read("latest")
    there = plain_channel(before.channel)
    if number == there.release:
        raise UserInputError(f"release {number} is the latest already; nothing was changed")
    manifest = require_release(federation, number, newest=there.newest)
    if not even_retracted:
        _require_nothing_back(federation, number, there)
    if not is_checked:
        _require_parts(federation, manifest)
    last = there.rollback
    current = federation.current_round()
    rollback = Rollback(
        number=last.number + 1 if last else 1, release=number, left=there.release, left_manifest=there.manifest,
        newest=there.newest, round=current if federation.journal(current).head() is not None else current - 1,
        reason=printable(reason), by=printable(by)[:200], at_s=time.time(),
        before=sha256(encode(last)) if last else None,
    )  # fmt: skip
    return Step(before=before, target=channel_to(manifest).model_copy(update={"rollback": rollback}))


def promote(federation: Federation, number: int | None, *, signer: Signer | None) -> tuple[Channel, Channel | None]:
    """Point `stable` to a release.

    Args:
        federation: The federation.
        number: Number of the release; None: the latest.
        signer: An operator's key, where there is a root.

    Returns:
        Where it points now, and where it did before; None: there was none. The same twice: nothing was written.

    Raises:
        UserInputError: The release was rolled back, or replaced as something was retracted.
        FederationError: There is no such release.
        DamagedObjectError: Something of that release is damaged or missing.
        TrustError: It is signed by nobody who may.
        ConflictError: Somebody else has moved the channel meanwhile.
    """
    step = plan_promotion(federation, number)
    if step.is_done:
        return step.target, step.was
    return federation.pointers.write(STABLE, step.target, step.before, signer), step.was


def plan_promotion(federation: Federation, number: int | None) -> Step:
    """Return what `promote` would write; raises as it."""
    latest = plain_channel(federation.pointers.read("latest").channel)
    wanted = latest.release if number is None else number
    manifest = require_release(federation, wanted, newest=latest.newest)
    if wanted not in (release.release for release in line_of(federation, latest, least=wanted)):
        _require_nothing_back(federation, wanted, latest)
        raise UserInputError(
            f"release {wanted} was rolled back, the latest is {latest.release}; put that back first: coldfuse rollback "
            f"STORE --to {wanted}"
        )
    _require_parts(federation, manifest)
    return Step(before=read_stable(federation), target=channel_to(manifest))


def follow_back(federation: Federation, *, signer: Signer | None) -> int | None:
    """Take `stable` back where its release was rolled back, or replaced as something was taken out of it.

    Returns:
        The number of the release that it points to now; None where it stays.

    Raises:
        ConflictError: Somebody else moves it.
        NotAllowedError: There is a root, and no key was given.
    """
    stable = read_stable(federation)
    latest = plain_channel(federation.pointers.read("latest").channel)
    if stable is None or stable.is_damaged:
        return None
    was = stable.channel.release
    line = line_of(federation, latest, least=0)
    on = next((manifest for manifest in line if manifest.release <= was), None)
    if on is None or on.release == was:
        return None
    return federation.pointers.write(STABLE, channel_to(on), stable, signer).release


def read_stable(federation: Federation) -> Pointer | None:
    """Read the channel `stable`; None where there is none. One that is damaged or forged can be written anew."""
    if STABLE not in federation.pointers.names():
        return None
    try:
        return federation.pointers.read(STABLE)
    except (DamagedObjectError, TrustError) as error:
        log.warning("channel %s counts for nothing: %s", STABLE, error)
        etag = federation.store.get_with_etag(channel_key(STABLE))[1]
        return Pointer(federation.channel("latest"), etag, is_damaged=True)


def line_of(federation: Federation, latest: Channel, *, least: int) -> Iterator[ReleaseManifest]:
    """Yield the release of a channel and those that it was made from, newest first, down to this number."""
    wanted: int | None = latest.release
    manifest = federation.release_at(latest)
    while wanted is not None and wanted >= least:
        yield manifest
        wanted = manifest.parent
        if wanted is not None and wanted >= least:
            manifest = require_release(federation, wanted, newest=latest.newest)


def require_release(federation: Federation, number: int, *, newest: int) -> ReleaseManifest:
    """Return a release that was out, once it is one that the federation has signed, where it has to be.

    Raises:
        FederationError: There is none of this number.
        DamagedObjectError: Its manifest is damaged, or signed by nobody who may.
    """
    data = None
    if 0 <= number <= newest:
        data = find_manifest(
            federation.store, federation.settings, federation.trust, number=number, journal=federation.journal
        )
    if data is None:
        raise FederationError(f"there is no release {number}; the newest is {newest}")
    return decode(ReleaseManifest, data, what=release_key(number))


def _require_nothing_back(federation: Federation, number: int, latest: Channel) -> None:
    """Refuse a release that was made with what was retracted since."""

    def release_of(one: int) -> ReleaseManifest:
        return require_release(federation, one, newest=latest.newest)

    found = sorted(brought_back(release_of, number, latest=latest.release, newest=latest.newest))
    if found:
        named = ", ".join(digest[:12] for digest in found[:3]) + (", …" if len(found) > 3 else "")
        raise UserInputError(
            f"release {number} was made with what was retracted since: {plural(len(found), 'contribution')} ({named}); "
            f"take a release without it, such as {latest.release}, the latest; coldfuse rollback --even-retracted puts "
            "back even that"
        )


def _require_parts(federation: Federation, manifest: ReleaseManifest) -> None:
    """Read every part of a release: nobody is sent to what cannot be had, or is about to be removed."""
    if manifest.release in CollectedSoFar(federation).releases.files:
        raise FederationError(
            f"release {manifest.release}: its files were removed by the retention rules, or are just being; nothing "
            "was changed"
        )
    files = {**manifest.files, **(manifest.outer.files if manifest.outer else {})}
    parts = {part: path for path, blob in files.items() for part in blob.parts}
    for part, path in parts.items():
        if (why := find_damage(federation.store, part.digest, part.size_bytes)) is not None:
            raise DamagedObjectError(
                f"release {manifest.release}: a part of {path} ({part.digest[:12]}) is damaged: {why}; nothing was "
                "changed; see coldfuse doctor",
                key=f"objects/{part.digest}",
            )
