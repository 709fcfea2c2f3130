"""What an address is still to be told."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.rollback import Rollback
from coldfuse.errors import CodecError, DamagedObjectError, FederationError, ObjectNotFoundError, TrustError
from coldfuse.registry.federation import Federation
from coldfuse.registry.rollbacks import read_rollback
from coldfuse.webhooks.events import OVER, Notice, notice_of, notices_of
from coldfuse.webhooks.marks import Mark

log = logging.getLogger(__name__)

MAX_BEHIND = 100
"""Rounds that are looked back through at most: who was away for longer is not told of what was before."""


def begin(federation: Federation, url: str) -> Mark:
    """Return the mark of an address that is new: what was before it was named is not told."""
    latest, change = federation.channel("latest"), federation.settings.change
    number, rollback = latest.last_round, latest.rollback
    if change is not None and url in (change.new.webhooks or ()):  # a release may have come out since
        made = _release(federation, change.after_release)
        number = min(number, made.round) if made is not None else number
        rollback = None if rollback is None or rollback.at_s > change.changed_at_s else rollback
    last = latest.rollback.number if latest.rollback else 0
    return Mark(round=number, step=OVER, rollback=rollback.number if rollback else max(last - 1, 0))


def pending(federation: Federation, mark: Mark) -> list[Notice]:
    """Return what is still to be told, in order.

    Raises:
        StorageError: The store is away.
    """
    name, current = federation.settings.federation, federation.current_round()
    found = [notice_of(name, rollback) for rollback in _rollbacks(federation, mark)]
    first = max(mark.round, 1)
    if first < current - MAX_BEHIND:
        log.warning(
            "a webhook is not told of rounds %d to %d: it was out of reach too long", first, current - MAX_BEHIND
        )
        first = current - MAX_BEHIND
    for number in range(first, current + 1):
        state = federation.journal(number).led()
        made = _release(federation, state.published.release) if state.published else None
        found += notices_of(name, number, state, made)
    waiting = (notice for notice in found if not mark.covers(notice))
    return sorted(waiting, key=lambda notice: (notice.round, notice.step, notice.rollback))


def _rollbacks(federation: Federation, mark: Mark) -> Iterator[Rollback]:
    last = federation.channel("latest").rollback
    if last is None:
        return
    for number in range(max(mark.rollback + 1, last.number - MAX_BEHIND), last.number):
        try:
            yield read_rollback(federation.store, federation.trust, number)
        except (ObjectNotFoundError, CodecError, TrustError) as error:
            log.warning("step back %d is not told: %s", number, error)
    if last.number > mark.rollback:
        yield last


def _release(federation: Federation, number: int) -> ReleaseManifest | None:
    try:
        return federation.release(number)
    except (FederationError, DamagedObjectError, CodecError):
        return None
