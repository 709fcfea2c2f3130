"""What a store should hold: every object, and what it is needed by."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.retention import Kept
from coldfuse.core.round import RoundState
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import CodecError, DamagedObjectError, FederationError, TrustError
from coldfuse.registry.collected import CollectedSoFar
from coldfuse.registry.federation import Federation
from coldfuse.registry.releases import list_releases
from coldfuse.registry.tombstones import Graveyard
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.tensors.checks import checks_key


@dataclass(frozen=True, kw_only=True)
class Need:
    """An object that something depends on."""

    key: str
    digest: str
    """SHA-256 of its bytes, or of the head of checks."""
    size_bytes: int | None = None
    """Its size, where that is known."""
    by: str
    """What needs it, for people."""
    checked: Blob | None = None
    """The file whose checks it holds; None for other objects."""
    is_asked_again: bool = False
    """True for what a contributor is asked to send again, once it is out of the way: its round is not over."""


def needs(federation: Federation, *, without: Collection[str] = (), kept: Kept | None = None) -> Iterator[Need]:
    """List what a federation needs, releases first; an object may be listed again for something else.

    What was erased on purpose nobody needs, nor what the retention rules have removed.

    Args:
        federation: The federation.
        without: Digests of contributions that are to be erased.
        kept: What is to be kept; None: all that was not removed by now.
    """
    numbers = list(list_releases(federation.store))
    if kept is None:
        gone = CollectedSoFar(federation).releases
        kept = Kept(files=frozenset(numbers) - gone.files, deltas=frozenset(numbers) - gone.deltas)
    fused: set[str] = set()
    for number in numbers:
        release, found = _read_release(federation, number)
        if release is None:
            continue
        yield from found
        yield from _needs_of_release(release, by=f"release {number}") if number in kept.files else ()
        fused |= {one.contribution for one in release.contributions if number in kept.deltas}
    wanting = _Wanting(federation, fused, frozenset(without), Graveyard(federation), first_unsettled(federation))
    for number in reversed(list_rounds(federation.store)):  # what is carried is needed by the round that is open
        yield from _needs_of_round(wanting, number)


def first_unsettled(federation: Federation) -> int:
    """Return the number of the first round in which something may still happen: that of the latest release.

    Its late contributions may still get verdicts, and what an abandoned round after it admitted may be carried on.
    """
    try:
        return federation.channel("latest").round
    except (FederationError, DamagedObjectError, TrustError):
        return 0  # nobody knows: all of them


def list_rounds(store: ObjectStore) -> list[int]:
    """List the numbers of the rounds that have left something in the store."""
    found = {key.split("/")[1] for key in list_keys(store, "rounds/") if key.count("/") >= 2}
    return sorted(int(name) for name in found if name.isdecimal())


def state_of(federation: Federation, number: int) -> RoundState:
    """Return what a round's journal adds up to; nothing where it is forged, which is found, and named, elsewhere."""
    try:
        return federation.journal(number).state()
    except TrustError:
        return RoundState()


@dataclass(frozen=True)
class _Wanting:
    """What decides whether a contribution is needed."""

    federation: Federation
    fused: Collection[str]
    """Those of which a release was made whose contributions are kept."""
    without: Collection[str]
    graves: Graveyard
    unsettled: int
    """Number of the first round in which something may still happen."""

    def keeps(self, contribution: str, number: int) -> bool:
        """Tell whether anybody may read a contribution's delta again."""
        return contribution in self.fused or number >= self.unsettled

    def is_erased(self, contribution: str) -> bool:
        """Tell whether a contribution was erased, or is to be."""
        if contribution in self.without:
            return True
        return not self.federation.objects.is_there(contribution) and self.graves.covers(contribution)


def _read_release(federation: Federation, number: int) -> tuple[ReleaseManifest | None, list[Need]]:
    """Return a release, and the second copy of its manifest that there has to be."""
    try:
        data = federation.find_release(number)
        if data is None:
            return None, []
        release = decode(ReleaseManifest, data, what="release")
    except (CodecError, DamagedObjectError):
        return None, []  # which is found, and named, where manifests are looked at
    digest = sha256(data)
    if not number and not federation.objects.is_there(digest):  # in older stores it lies under its number alone
        return release, []
    by = f"release {number}, its manifest"
    return release, [Need(key=f"objects/{digest}", digest=digest, size_bytes=len(data), by=by)]


def _needs_of_release(release: ReleaseManifest, *, by: str) -> Iterator[Need]:
    for name, blob in release.files.items():
        yield from _needs_of_file(blob, release.checks.get(name), f"{by}, {name}")
    files, checks = (release.outer.files, release.outer.checks) if release.outer else ({}, {})
    for name, blob in files.items():
        yield from _needs_of_file(blob, checks.get(name), f"{by}, outer state {name}")


def _needs_of_round(wanting: _Wanting, number: int) -> Iterator[Need]:
    federation = wanting.federation
    state = state_of(federation, number)
    admissions = _admissions(state)
    for contribution in sorted(state.received.keys() | admissions.keys()):
        if not wanting.is_erased(contribution):
            is_kept = wanting.keeps(contribution, number)
            yield from _needs_of_contribution(federation, number, contribution, state, is_kept=is_kept)
    for digest in state.gating.words:
        yield Need(key=f"objects/{digest}", digest=digest, by=f"round {number}, what an evaluator has signed")
    for digest in () if state.is_over else state.candidates:
        yield from _needs_of_candidate(federation, digest, by=f"round {number}, what it has fused")


def _needs_of_candidate(federation: Federation, digest: str, *, by: str) -> Iterator[Need]:
    yield Need(key=f"objects/{digest}", digest=digest, by=by)
    with suppress(CodecError, DamagedObjectError):
        yield from _needs_of_release(federation.objects.get_value(ReleaseManifest, digest), by=by)


def _needs_of_contribution(
    federation: Federation, number: int, contribution: str, state: RoundState, *, is_kept: bool
) -> Iterator[Need]:
    if contribution in state.rejected:
        return  # nobody reads it again
    received = state.received.get(contribution)
    admission = _admissions(state).get(contribution)
    who = received.contributor if received else admission.contributor if admission else "?"
    by, is_asked = f"round {number}, the contribution of {who}", not state.is_over and state.fused is None
    key = f"objects/{contribution}"
    yield Need(key=key, digest=contribution, by=f"{by}, its manifest", is_asked_again=is_asked)
    try:
        manifest = federation.objects.get_value(ContributionManifest, contribution) if is_kept else None
    except (CodecError, DamagedObjectError):
        return
    if manifest is None:
        return
    root = admission.checks if admission else None
    yield from _needs_of_file(manifest.delta, root, f"{by}, its delta", is_asked_again=is_asked)
    if manifest.mask is not None:
        yield from _needs_of_file(manifest.mask, None, f"{by}, its mask", is_asked_again=is_asked)
    if manifest.statistics is not None:
        used = admission.statistics if admission else None
        file, checks = manifest.statistics.file, used.checks if used else None
        yield from _needs_of_file(file, checks, f"{by}, its statistics", is_asked_again=is_asked)


def _needs_of_file(blob: Blob, root: str | None, by: str, *, is_asked_again: bool = False) -> Iterator[Need]:
    for part in blob.parts:
        yield Need(
            key=f"objects/{part.digest}", digest=part.digest, size_bytes=part.size_bytes, by=by,
            is_asked_again=is_asked_again,
        )  # fmt: skip
    if root is not None:
        yield Need(key=checks_key(root), digest=root, by=f"{by}, what it is verified by", checked=blob)


def _admissions(state: RoundState) -> dict[str, Admission]:
    carried = state.opened.carried if state.opened else ()
    return {a.contribution: a for a in carried} | dict(state.admitted)
