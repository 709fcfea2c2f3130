"""Erasing the bytes of what was retracted: its manifests, deltas and statistics that nothing else needs.

A signed tombstone is written first, which names nobody: it holds salted digests, by which whoever misses an object
finds that it was erased. Then the objects go, a contribution's manifest last. Killed in between, doing it again
finishes.

What stays, and is said: the name of its giver in journals and in the manifests of the releases that were made from it,
which are signed as they are; and what those releases have learned from it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from coldfuse.aggregator.retractable import Given
from coldfuse.aggregator.stored import Stored
from coldfuse.core.contribution import Admission
from coldfuse.core.names import Identity
from coldfuse.core.retraction import MAX_ERASED, bury
from coldfuse.errors import CodecError, DamagedObjectError
from coldfuse.registry.damage import DAMAGED
from coldfuse.registry.federation import Federation
from coldfuse.registry.inventory import list_rounds, needs, state_of
from coldfuse.registry.objects import object_key
from coldfuse.registry.tombstones import Graveyard, put_tombstone
from coldfuse.tensors.checks import checks_key


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What was erased."""

    num_contributions: int
    num_objects: int
    num_bytes: int
    num_spared: int
    """Number of objects that something else needs, and that stay: the same bytes of another contribution."""


def erase(federation: Federation, target: str, given: Given) -> Erased:
    """Erase what was retracted; doing it again is success.

    Args:
        federation: The federation, with the aggregator's keys where it has a root.
        target: The contributor's name, or the beginning of a contribution's digest.
        given: What releases were made from.

    Raises:
        StorageError: The store is away: calling it again goes on.
    """
    out = list(dict.fromkeys([*given.out, *_sent(federation, target, given)]))
    found = {digest: list(_objects_of(federation, digest)) for digest in out}
    wanted = {digest: key for objects in found.values() for digest, key in objects}
    needed = {need.digest for need in needs(federation, without=out) if need.digest in wanted}
    going = {digest: key for digest, key in wanted.items() if digest not in needed}
    _bury(federation, going)
    num_objects, num_bytes = 0, 0
    for digest, key in going.items():
        for place in (key, f"{DAMAGED}{digest}"):
            if (info := federation.store.head(place)) is not None:
                federation.store.delete(place)
                num_objects, num_bytes = num_objects + 1, num_bytes + info.size_bytes
    return Erased(
        num_contributions=len(out), num_objects=num_objects, num_bytes=num_bytes, num_spared=len(needed)
    )  # fmt: skip


def _sent(federation: Federation, target: str, given: Given) -> Iterator[str]:
    """Yield what a contributor has sent to rounds that are over, and no release was made from."""
    name = Identity.of(target).id
    fused = {one.contribution for one in given.fused}
    if not any(one.contributor == name for one in given.fused):
        return  # one contribution was named
    for number in list_rounds(federation.store):
        state = state_of(federation, number)
        carried = {one.contribution for one in state.admitted.values()} if state.abandoned else set()
        for digest, received in state.received.items():
            is_theirs = received.contributor == name and state.is_over
            if is_theirs and digest not in fused and (digest not in carried or digest in state.rejected):
                yield digest


def _objects_of(federation: Federation, contribution: str) -> Iterator[tuple[str, str]]:
    """Yield digest and key of what a contribution consists of, its manifest last; nothing where that is gone."""
    try:
        stored = federation.objects.get_value(Stored, contribution)
    except (DamagedObjectError, CodecError):
        return
    for blob in stored.files:
        for part in blob.parts:
            yield part.digest, object_key(part.digest)
    for root in _checks_of(federation, contribution):
        yield root, checks_key(root)
    yield contribution, object_key(contribution)


def _checks_of(federation: Federation, contribution: str) -> Iterator[str]:
    for admission in _admissions(federation, contribution):
        roots = (admission.checks, admission.statistics.checks if admission.statistics else None)
        yield from (root for root in roots if root is not None)


def _admissions(federation: Federation, contribution: str) -> Iterator[Admission]:
    for number in list_rounds(federation.store):
        admission = state_of(federation, number).admitted.get(contribution)
        if admission is not None:
            yield admission
            return


def _bury(federation: Federation, digests: Collection[str]) -> None:
    """Write tombstones for what has none yet."""
    graves = Graveyard(federation)
    new = [digest for digest in digests if not graves.covers(digest)]
    latest = federation.channel("latest").release
    for first in range(0, len(new), MAX_ERASED):
        tombstone = bury(
            new[first : first + MAX_ERASED], salt=secrets.token_hex(16), federation=federation.settings.federation,
            release=latest, now_s=time.time(),
        )  # fmt: skip
        put_tombstone(federation, tombstone)
