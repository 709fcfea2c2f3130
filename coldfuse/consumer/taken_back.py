"""Whether a release that is asked for by its number was taken back since, by what its federation has signed.

A release is taken back where the latest one was not made of it: the channel has stepped back to an older one, or the
release was replaced as something in it was retracted. The channel `latest`, which is signed, says where to begin and
what its last step back was; that one names the step before it by its SHA-256, and every release is verified on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from coldfuse.consumer.belief import FRESH_S
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.rollback import Rollback
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.core.words import plural, printable
from coldfuse.errors import ColdfuseError, FederationError, TransportError
from coldfuse.registry.rollbacks import rollback_key
from coldfuse.trust.channel import SignedChannel
from coldfuse.trust.envelope import read_envelope

_MOST_RELEASES = 200
"""Releases since that are looked through, one manifest each: a number that a program names for good grows old."""

_MOST_STEPS = 1000
"""Steps back that are looked through."""


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """That a release counts no more."""

    release: int
    """Number of the release that was asked for."""
    latest: int
    """Number of the federation's latest release."""
    how: str
    """What became of it, in words: that it was rolled back, replaced, or that nobody can tell."""
    at_s: float | None = None
    """Seconds since 1970 at which that was done, by the clock of who did it; None where nobody says."""
    reason: str = ""
    """Why, as its operator says."""
    is_certain: bool = True
    """False where it may count as ever, but what was signed since cannot be had or verified."""

    def __str__(self) -> str:
        """Say it in a sentence."""
        moment, why = _when(self.at_s), f" ({self.reason})" if self.reason else ""
        done = f"{self.how}{f', on {moment}' if moment else ''}{why}"
        return f"release {self.release} {done}; the federation is at release {self.latest} now"


def find_taken_back(source: object, number: int) -> TakenBack | None:
    """Say what took a release back; None where nothing did, or where nothing is signed by which it could be told.

    Args:
        source: Whom to ask.
        number: Number of the release.

    Raises:
        TrustError: The channel is not signed as it has to be.
        TransportError: The gateway is out of reach.
    """
    if not isinstance(source, TrustedGateway):
        return None
    latest = source.belief.channel("latest", max_age_s=FRESH_S)
    if number == latest.release or number > latest.newest:  # one that waits behind the channel `candidate`
        return None
    try:
        return _find(source, latest, number)
    except TransportError:
        raise
    except ColdfuseError as error:  # a manifest that is damaged, hidden, or signed by a key that was replaced
        how = f"may have been taken back, which cannot be told ({' '.join(str(error).split())})"
        return TakenBack(release=number, latest=latest.release, how=how, is_certain=False)


def _find(gateway: TrustedGateway, latest: SignedChannel, number: int) -> TakenBack | None:
    replaced_by: ReleaseManifest | None = None
    on_line: int | None = latest.release  # the next one that the latest release was made of
    current: int | None = latest.release  # the next one that was the latest, counting what a retraction has replaced
    num = 0
    while current is not None and current > number:
        if (num := num + 1) > _MOST_RELEASES:
            raise FederationError(f"more than {_MOST_RELEASES} releases came after it; see coldfuse lineage --all")
        manifest = gateway.release(current)
        on_line = manifest.parent if current == on_line else on_line
        if manifest.retraction and (manifest.parent or 0) < number <= manifest.retraction.replaces:
            replaced_by = manifest
        current = None if (manifest.continues or 0) >= current else manifest.continues
    if on_line == number:
        return None
    if current == number and replaced_by is not None and replaced_by.retraction is not None:
        return TakenBack(
            release=number, latest=latest.release, at_s=replaced_by.created_at_s,
            how=f"was replaced by release {replaced_by.release}, without "
            f"{plural(len(replaced_by.retraction.left_out), 'contribution')} that had to go",
            reason=printable(replaced_by.retraction.reason),
        )  # fmt: skip
    step = _step_over(gateway, latest.rollback, number)
    if step is None:
        return TakenBack(release=number, latest=latest.release, how="is none that the latest release was made of")
    return TakenBack(
        release=number, latest=latest.release, at_s=step.at_s, how=f"was rolled back, to release {step.release}",
        reason=printable(step.reason),
    )  # fmt: skip


def _step_over(gateway: TrustedGateway, last: Rollback | None, number: int) -> Rollback | None:
    """Return the step back that has taken a release with it: the first since the release last counted."""
    found: Rollback | None = None
    for step in _steps(gateway, last):
        if step.release < number <= step.left:
            found = step
        elif found is not None and step.left < number <= step.release:  # forward again, to it or beyond
            break
    return found


def _steps(gateway: TrustedGateway, last: Rollback | None) -> Iterator[Rollback]:
    """Yield the steps back, newest first; each proves the one before it, whoever has signed that."""
    for _ in range(_MOST_STEPS):
        if last is None:
            return
        yield last
        before = _read_step(gateway, last.number - 1) if last.before is not None else None
        last = before if before is not None and sha256(encode(before)) == last.before else None


def _read_step(gateway: TrustedGateway, number: int) -> Rollback | None:
    """Return a step as it was kept, unverified; None where it is not handed out: older gateways hand out none."""
    key = rollback_key(number)
    try:
        data = gateway.read_signed(key)
        if data is None:
            return None
        return decode(SignedChannel, read_envelope(data, what=key).content("channel", what=key), what=key).rollback
    except TransportError:
        raise
    except ColdfuseError:
        return None


def _when(moment_s: float | None) -> str:
    try:
        return "" if moment_s is None else datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # what a clock said: a NaN, or the year 300000
        return ""
