"""Taking something out of a federation, as its aggregator: one new release takes the place of those that held it.

The lease is taken from whoever leads, who waits meanwhile and goes on from the new release. First all is fused, which
writes nothing but objects that nobody names yet. Then the running round ends, and a round of its own says what is taken
out, and publishes. Killed before that, nothing has changed, and calling it again makes the same bytes; killed after it,
whoever leads next finishes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from coldfuse.aggregator.ending import give_up
from coldfuse.aggregator.erasing import Erased, erase
from coldfuse.aggregator.led import LedExecutor
from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.retractable import Given, Plan, find_given, plan_retraction
from coldfuse.aggregator.retracting import fuse_retraction, fused_entry, next_of_retraction, opening_of
from coldfuse.aggregator.round import Round, advance
from coldfuse.aggregator.screen import bounded
from coldfuse.aggregator.watchdog import Watchdog
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Abandoned
from coldfuse.engine.execution import Executor, WatchedExecutor
from coldfuse.errors import ConflictError, FederationError
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.lease import RETRACTING, Lease

log = logging.getLogger(__name__)

_LEASE_S = 30.0
"""Seconds after which others may lead again where a retraction was killed."""

_TRIES = 5
"""Times that it is planned anew where somebody who led has just published something."""


@dataclass(frozen=True, kw_only=True)
class Retracted:
    """What was taken out."""

    release: ReleaseManifest | None
    """The release that was published for it; None where it was out of the latest one already."""
    given: Given
    """What there was of it before."""
    erased: Erased | None
    """What was erased; None where nothing was asked for."""


def retract(
    federation: Federation,
    target: str,
    executor: WatchedExecutor,
    *,
    reason: str,
    erases: bool = False,
    wait: Callable[[float], None] = time.sleep,
) -> Retracted:
    """Take out what a contributor gave, or one contribution; calling it again after any failure finishes.

    Args:
        federation: The federation, with the aggregator's keys where it has a root.
        target: A contributor's name, or the beginning of a contribution's digest.
        executor: Runs the tasks that fuse.
        reason: Why, for people; it stays in the journal and in the release.
        erases: Whether its bytes are erased, too.
        wait: Waits for so many seconds, for who leads at the moment to end what it does.

    Raises:
        UserInputError: Nothing that any release was made from is called that.
        FederationError: It cannot be done; nothing was written.
        FusionError: A method refuses what is left of a round; nothing was written.
        NotAllowedError: There is a root, and these are not the aggregator's keys.
        ConflictError: Others publish all the time.
        LeaseLostError: Another aggregator has taken the lease: call it again.
    """
    federation.require_signer()
    plan_retraction(federation, target, reason=reason, erases=erases)  # what cannot be done disturbs nobody
    with Lease.taken(federation.store, ttl_s=_LEASE_S, wait=wait, purpose=RETRACTING) as lease:
        led = LedExecutor(executor, lease, Watchdog())
        given, made = find_given(federation, target), None
        for attempt in range(_TRIES):
            _finish_begun(federation, led)
            plan = plan_retraction(federation, target, reason=reason, erases=erases)
            if plan is None:
                break
            try:
                made = _carry_out(federation, plan, led)
            except ConflictError:
                if attempt + 1 == _TRIES:
                    raise
                log.warning("who led has published something meanwhile; planning it anew")
        lease.check()
        erased = erase(federation, target, find_given(federation, target)) if erases else None
    return Retracted(release=made, given=given, erased=erased)


def _finish_begun(federation: Federation, executor: Executor) -> None:
    """Finish a retraction that somebody was killed in."""
    journal = federation.journal(federation.current_round())
    opened = journal.state().opened
    if opened is not None and opened.retraction is not None:
        _advance(federation, journal, executor)


def _carry_out(federation: Federation, plan: Plan, executor: Executor) -> ReleaseManifest:
    now_s, number = time.time(), federation.current_round()
    running = federation.journal(number)
    state = running.state()
    is_begun = state.opened is not None
    own = federation.journal(number + 1) if is_begun else running
    made = fuse_retraction(
        federation, plan.retraction, executor, round_number=own.round, now_s=now_s, parent=plan.parent.release
    )  # fmt: skip
    if running.needs_head:
        running.mend_head()
    now = running.state()
    for event in give_up(now, _why_given_up(plan), also=now.waiting) if is_begun else ():
        running.append(event)
    own.state()
    own.append(opening_of(federation, plan.retraction, parent=plan.parent, now_s=now_s))
    own.append(next_of_retraction(federation, executor, own.state(), round_number=own.round))
    own.append(fused_entry(federation, made))
    _advance(federation, own, executor)
    return federation.latest()


def _why_given_up(plan: Plan) -> str:
    retraction = plan.retraction
    return bounded(
        f"something was retracted: release {retraction.replaces}, the base of this round, makes way for release "
        f"{retraction.release}; fetch that, train on it, and send what comes of it"
    )


def _advance(federation: Federation, journal: Journal, executor: Executor) -> None:
    """Lead a retraction's round to its end."""
    round_ = Round(
        federation=federation, journal=journal, base=open_base(federation, federation.latest()), executor=executor,
        now_s=time.time, rollback=federation.channel("latest").rollback,
    )  # fmt: skip
    while events := advance(round_):
        for event in events:
            if isinstance(event, Abandoned):
                raise FederationError(f"round {journal.round}: {event.reason}")
