"""What it takes to take something out of a federation: which rounds are fused again, and whether that can be done.

All is looked at before anything is written: what lies in the store, what journals say, and who has signed it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from coldfuse.aggregator.replay import Replay, steps_between
from coldfuse.aggregator.retracting import releases_of
from coldfuse.aggregator.stored import Stored
from coldfuse.core.blob import Blob
from coldfuse.core.names import Identity
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.core.retraction import Retraction
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import CodecError, DamagedObjectError, FederationError, UserInputError
from coldfuse.registry.federation import Federation
from coldfuse.registry.published import is_taken
from coldfuse.registry.releases import list_releases
from coldfuse.registry.tombstones import Graveyard

_PARALLEL_READS = 16

_DIGEST = re.compile(r"[0-9a-f]{8,64}")
"""What may be the beginning of a contribution's digest; the commands print twelve letters of it."""

Matches = Callable[[FusedContribution], bool]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What somebody gave, and what became of it."""

    fused: tuple[FusedContribution, ...]
    """Its contributions that any release was made from, each once, in the order of releases."""
    held: tuple[str, ...]
    """Those of them that the latest release was made from, by their digests."""

    @property
    def out(self) -> tuple[str, ...]:
        """Digests of the contributions that releases were made from, and the latest was not."""
        return tuple(one.contribution for one in self.fused if one.contribution not in self.held)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How something is taken out."""

    retraction: Retraction
    parent: ReleaseManifest
    """The last release that never held it."""
    given: Given
    new: tuple[str, ...]
    """Digests of the contributions that are left out from now on."""


def find_given(federation: Federation, target: str) -> Given:
    """Find what a contributor gave, or one contribution.

    Args:
        federation: The federation.
        target: A contributor's name, or the beginning of a contribution's digest.

    Raises:
        UserInputError: No release was made from any such, or the digest's beginning is that of several.
    """
    line = {release.release for release in line_of(federation)}
    matches = _matcher(federation, target)
    fused: dict[str, FusedContribution] = {}
    held: set[str] = set()
    for number in sorted(list_releases(federation.store)):
        for one in _contributions_of(federation, number):
            if matches(one):
                fused.setdefault(one.contribution, one)
                held |= {one.contribution} if number in line else set()
    out = {digest for release in line_of(federation) if release.retraction for digest in release.retraction.left_out}
    if not fused:
        raise UserInputError(
            f"{target[:80]!r}: no release was made from a contribution of that name or digest; `coldfuse lineage "
            f"{federation.store.url}` lists them. What waits in the open round `coldfuse quarantine` or `revoke` takes "
            "back"
        )
    return Given(fused=tuple(fused.values()), held=tuple(digest for digest in fused if digest in held - out))


def line_of(federation: Federation) -> Iterator[ReleaseManifest]:
    """Yield the latest release and those that it comes from, the newest first, signed wherever they have to be."""
    release_of = releases_of(federation)
    release = federation.latest()
    while True:
        yield release
        if release.parent is None:
            return
        release = release_of(release.parent)


def plan_retraction(federation: Federation, target: str, *, reason: str, erases: bool) -> Plan | None:
    """Say what is fused again to take something out; None where it is out of the latest release already.

    Args:
        federation: The federation.
        target: A contributor's name, or the beginning of a contribution's digest.
        reason: Why, for people.
        erases: Whether its bytes are to be erased afterwards.

    Raises:
        UserInputError: Nothing that any release was made from is called that.
        FederationError: It cannot be done; nothing was written.
    """
    given = find_given(federation, target)
    if not given.held:
        return None
    new, line = set(given.held), list(line_of(federation))
    first = max(i for i, release in enumerate(line) if any(c.contribution in new for c in release.contributions))
    latest, parent = line[0], line[first + 1]
    out = {digest for one in line[: first + 1] if one.retraction for digest in one.retraction.left_out}
    left_out = tuple(sorted(out | new))
    steps = steps_between(releases_of(federation), replaces=latest.release, parent=parent.release, left_out=left_out)
    retraction = Retraction(
        release=_free_number(federation),
        replaces=latest.release, replaced=sha256(encode(latest)), left_out=left_out, steps=steps,
        influence="remains" if any(step.num_influenced for step in steps) else "none",
        bytes="to be erased" if erases else "kept", reason=reason,
    )  # fmt: skip
    _require_signed(federation, retraction)
    _require_there(federation, retraction, parent)
    return Plan(retraction=retraction, parent=parent, given=given, new=tuple(sorted(new)))


def _free_number(federation: Federation) -> int:
    """Return the first number that no release has, nor one that a round was about to publish that is given up now."""
    number = federation.channel("latest").newest + 1
    while is_taken(federation.store, federation.settings, federation.trust, number=number):
        number += 1
    return number


def _contributions_of(federation: Federation, number: int) -> Sequence[FusedContribution]:
    try:
        return federation.release(number).contributions
    except (CodecError, DamagedObjectError):
        return ()  # it is none of the latest release's line, or that is found where the line is followed


def _matcher(federation: Federation, target: str) -> Matches:
    """Return what tells whether a contribution is meant; a name counts before the beginning of a digest."""
    name = Identity.of(target).id
    every = [c for number in list_releases(federation.store) for c in _contributions_of(federation, number)]
    if any(one.contributor == name for one in every) or not _DIGEST.fullmatch(target):
        return lambda one: one.contributor == name
    found = {one.contribution for one in every if one.contribution.startswith(target)}
    if len(found) > 1:
        raise UserInputError(f"{target}: begins the digests of {len(found)} contributions; give more of it")
    return lambda one: one.contribution in found


def _require_signed(federation: Federation, retraction: Retraction) -> None:
    """Refuse what is older than the federation's root: nobody has signed what those rounds admitted."""
    settings = federation.settings
    for step in retraction.steps:
        if settings.root is not None and not (
            settings.is_signed_release(step.release) and settings.is_signed_round(step.round)
        ):
            raise FederationError(
                f"release {step.release} is of before this federation had a root: nobody has signed what its round "
                "admitted, so nothing can be fused again from it; `coldfuse quarantine` or `revoke` keeps its giver out"
            )


def _require_there(federation: Federation, retraction: Retraction, parent: ReleaseManifest) -> None:
    """Refuse what cannot be fused again because something that it takes is not in the store any more."""
    replay = Replay(
        retraction=retraction, state_of=lambda number: federation.journal(number).state(),
        release_of=releases_of(federation),
    )  # fmt: skip
    outer = parent.outer.files if parent.outer else {}
    _require_parts(federation, f"release {parent.release}", [*parent.files.values(), *outer.values()])
    graves = Graveyard(federation)
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        for again in replay.steps():
            require = partial(_require_one, federation, graves, again.step.round)
            list(pool.map(require, [admission.contribution for admission in again.admissions]))


def _require_one(federation: Federation, graves: Graveyard, number: int, digest: str) -> None:
    what = f"contribution {digest[:12]}, which round {number} has to be fused again from,"
    if graves.covers(digest):
        raise FederationError(f"{what} was erased after it was retracted itself; nothing was written")
    try:
        stored = federation.objects.get_value(Stored, digest)
    except (DamagedObjectError, CodecError) as error:
        raise FederationError(f"{what} is not in the store any more ({error}); nothing was written") from error
    _require_parts(federation, what, stored.files)


def _require_parts(federation: Federation, what: str, files: Sequence[Blob]) -> None:
    parts = (part for blob in files for part in blob.parts)
    missing = next((part for part in parts if not federation.objects.has(part.digest, part.size_bytes)), None)
    if missing is not None:
        raise FederationError(
            f"{what} is not whole in the store any more: object {missing.digest[:12]} is gone, collected by the "
            "retention rules or lost; bring it back from a copy of the store; nothing was written"
        )
