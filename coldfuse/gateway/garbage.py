"""Removing what nothing needs any more, without ever removing what somebody relies on.

What is needed `marking` says. The rest is removed as `leftovers` removes parts that nobody has committed, by the same
announcement, and by two things more:

- What was found is announced, and looked at once more `SETTLE_S` later. So all that is removed had been needed by
  nobody for so long; what came meanwhile is not among it, and what was taken into use meanwhile is spared.
- It is removed under the aggregator's lease, while no release is being made: whoever fuses or retracts finds, when it
  leads again, that a part is missing, and writes it.

Killed at any point, it is run again: what was removed was nobody's, and an announcement ends by itself.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from coldfuse.core.retention import Kept, RetentionRules
from coldfuse.errors import FederationError
from coldfuse.gateway.leftovers import COLLECTING, MAX_BATCH, SETTLE_S, announce
from coldfuse.gateway.marking import PARALLEL_REQUESTS, Candidate, candidates, mark, named_lately
from coldfuse.registry.collected import put_collected
from coldfuse.registry.federation import Federation
from coldfuse.registry.lease import RETRACTING, Lease, read_lease
from coldfuse.storage.base import ObjectStore

_LEASE_S = 30.0
"""Seconds after which others may lead again where a collection was killed."""

_QUIET_EVERY = 100
"""Number of objects that are removed between two looks whether a release is being made."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What was found, or removed, by reason."""

    kept: Kept
    num_objects: Counter[str] = field(default_factory=Counter)
    num_bytes: Counter[str] = field(default_factory=Counter)

    def add(self, candidate: Candidate) -> None:
        """Count an object."""
        self.num_objects[candidate.reason] += 1
        self.num_bytes[candidate.reason] += candidate.size_bytes


def survey(federation: Federation, rules: RetentionRules) -> Garbage:
    """Say what a collection would remove now, and why; nothing is written.

    Args:
        federation: The federation.
        rules: How much is kept.

    Raises:
        CodecError: A document is damaged, so that nobody knows what it names.
        StorageError: The store is away.
    """
    marked = mark(federation, rules)
    found = Garbage(kept=marked.kept)
    for candidate in candidates(federation.store, marked):
        found.add(candidate)
    return found


def collect(
    federation: Federation,
    rules: RetentionRules,
    *,
    wait: Callable[[float], None] = time.sleep,
    settle_s: float = SETTLE_S,
) -> Garbage:
    """Remove what nothing needs, and return what that was; called again after any failure, it goes on.

    Args:
        federation: The federation, with the aggregator's keys where it has a root.
        rules: How much is kept.
        wait: Waits for so many seconds.
        settle_s: Seconds for which an object must have been needed by nobody.

    Raises:
        FederationError: A release is being made, something is retracted or another collector is at work: try later.
        CodecError: A document is damaged, so that nobody knows what it names; nothing was removed since.
        LeaseLostError: Another has taken the lease; what was removed until then was nobody's.
        StorageError: The store is away.
    """
    federation.require_signer()
    marked = mark(federation, rules)
    if marked.gone.files or marked.gone.deltas:
        put_collected(federation, marked.gone)
    removed, found = Garbage(kept=marked.kept), candidates(federation.store, marked)
    while batch := list(islice(found, MAX_BATCH)):
        for candidate in _remove(federation, batch, marked.since, wait=wait, settle_s=settle_s):
            removed.add(candidate)
    return removed


def _remove(
    federation: Federation, batch: list[Candidate], since: int, *, wait: Callable[[float], None], settle_s: float
) -> Iterator[Candidate]:
    store = federation.store
    if not announce(store, [candidate.digest for candidate in batch], now_s=time.time()):
        raise FederationError(
            f"{store.url}: another collector is at work, or was killed within the last hour; run it again later"
        )
    try:
        wait(settle_s)
        _require_nobody_retracts(store, wait)
        with Lease.taken(store, ttl_s=_LEASE_S, wait=wait) as lease, ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:

            def remove(candidate: Candidate) -> Candidate:
                lease.check()
                store.delete(candidate.key)
                return candidate

            spared = set(named_lately(federation, since))
            left = (candidate for candidate in batch if candidate.digest not in spared)
            while some := list(islice(left, _QUIET_EVERY)):
                _require_quiet(federation)
                yield from pool.map(remove, some)
    finally:
        store.delete(COLLECTING)


def _require_nobody_retracts(store: ObjectStore, wait: Callable[[float], None]) -> None:
    """Leave who retracts alone; one that was killed is found out by watching its lease."""
    record, _ = read_lease(store)
    if record is None or not record.holder.startswith(RETRACTING):
        return
    watched = Lease(store, ttl_s=_LEASE_S)
    for _ in range(math.ceil(min(record.ttl_s, _LEASE_S)) + 2):
        if watched.try_acquire() is None:
            watched.release()
            return
        wait(1.0)
    raise FederationError(f"{store.url}: something is being retracted at this moment; run it again when that is done")


def _require_quiet(federation: Federation) -> None:
    """Refuse while a release is being made: its parts are named by nothing yet."""
    number = federation.current_round()
    state = federation.journal(number).led()
    if state.opened is not None and not state.is_open and not state.is_over:
        raise FederationError(
            f"{federation.store.url}: round {number} is being fused; run it again once its release is out"
        )
