"""What a store should hold: every object, and what it is needed by."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import RoundState
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import CodecError, DamagedObjectError, TrustError
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


def needs(federation: Federation, *, without: Collection[str] = ()) -> Iterator[Need]:
    """List what a federation needs, releases first; an object may be listed again for something else.

    What was erased on purpose nobody needs.

    Args:
        federation: The federation.
        without: Digests of contributions that are to be erased.
    """
    for number in list_releases(federation.store):
        yield from _needs_of_release(federation, number)
    graves = Graveyard(federation)
    for number in reversed(list_rounds(federation.store)):  # what is carried is needed by the round that is open
        yield from _needs_of_round(federation, number, without, graves)


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


def _needs_of_release(federation: Federation, number: int) -> Iterator[Need]:
    try:
        data = federation.find_release(number)
        if data is None:
            return
        release = decode(ReleaseManifest, data, what="release")
    except (CodecError, DamagedObjectError):
        return  # which is found, and named, where manifests are looked at
    by = f"release {number}"
    digest = sha256(data)
    if number or federation.objects.is_there(digest):  # that of release 0 lies under its number alone in older stores
        yield Need(key=f"objects/{digest}", digest=digest, size_bytes=len(data), by=f"{by}, its manifest")
    for name, blob in release.files.items():
        yield from _needs_of_file(blob, release.checks.get(name), f"{by}, {name}")
    files, checks = (release.outer.files, release.outer.checks) if release.outer else ({}, {})
    for name, blob in files.items():
        yield from _needs_of_file(blob, checks.get(name), f"{by}, outer state {name}")


def _needs_of_round(federation: Federation, number: int, without: Collection[str], graves: Graveyard) -> Iterator[Need]:
    state = state_of(federation, number)
    admissions = _admissions(state)
    for contribution in sorted((state.received.keys() | admissions.keys()).difference(without)):
        if not federation.objects.is_there(contribution) and graves.covers(contribution):
            continue
        yield from _needs_of_contribution(federation, number, contribution, state)
    decided = (*state.gating.evaluations, *state.gating.heard.values())
    for digest in dict.fromkeys(word for decision in decided for word in decision.words):
        yield Need(key=f"objects/{digest}", digest=digest, by=f"round {number}, what an evaluator has signed")
    for digest in () if state.is_over else state.candidates:
        yield from _needs_of_candidate(federation, digest, by=f"round {number}, what it has fused")


def _needs_of_candidate(federation: Federation, digest: str, *, by: str) -> Iterator[Need]:
    yield Need(key=f"objects/{digest}", digest=digest, by=by)
    try:
        release = federation.objects.get_value(ReleaseManifest, digest)
    except (CodecError, DamagedObjectError):
        return
    for name, blob in release.files.items():
        yield from _needs_of_file(blob, release.checks.get(name), f"{by}, {name}")


def _needs_of_contribution(federation: Federation, number: int, contribution: str, state: RoundState) -> Iterator[Need]:
    if contribution in state.rejected:
        return  # nobody reads it again
    received = state.received.get(contribution)
    admission = _admissions(state).get(contribution)
    who = received.contributor if received else admission.contributor if admission else "?"
    by, is_asked = f"round {number}, the contribution of {who}", not state.is_over and state.fused is None
    key = f"objects/{contribution}"
    yield Need(key=key, digest=contribution, by=f"{by}, its manifest", is_asked_again=is_asked)
    try:
        manifest = federation.objects.get_value(ContributionManifest, contribution)
    except (CodecError, DamagedObjectError):
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
