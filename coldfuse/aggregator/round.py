"""A round, from opening to the next release.

`advance` does the next thing that the round's journal asks for. All that it knows it reads from the journal, and each
thing ends in one entry: killed between any two lines, another aggregator calls `advance` and goes on with the same
bytes. Late contributions: a gateway checks that the round is open, records the contribution, and checks again; the
leader closes the round, and then judges what was recorded before that. So a contribution that was acknowledged gets a
verdict, and one that came too late is told so.

How old a round is the leader measures itself (`registry.round_clock`), and every entry that it writes into an open
round says it for who leads next. What was found before the round ended is screened before it closes or is abandoned;
what comes after that waits for its verdict until then, so that no stream of contributions keeps a round open.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from coldfuse.aggregator.judging import MAX_VERDICTS, judge, rejection, settle
from coldfuse.aggregator.mending import damaged_in_fusion, late_reason, mend, without_damaged
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.release import MOST_CONTRIBUTIONS, describe_standing, fuse_release
from coldfuse.aggregator.retracting import give_up, next_of_retraction
from coldfuse.aggregator.screen import bounded
from coldfuse.aggregator.signing import sign_release
from coldfuse.core.closing import RoundAction, RoundFacts, decide, facts_of, in_time
from coldfuse.core.contribution import Admission
from coldfuse.core.damage import Damaged
from coldfuse.core.federation import RoundRules
from coldfuse.core.history import hand_on
from coldfuse.core.past import ActiveContributor
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.room import is_full, within
from coldfuse.core.round import (
    Abandoned,
    Admitted,
    Closed,
    Fused,
    LeaderEvent,
    Opened,
    Published,
    Rejected,
    RoundState,
)
from coldfuse.engine.execution import Executor
from coldfuse.errors import ConflictError, DamagedObjectError, FusionError
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.round_clock import RoundClock

_NUM_MARKS = 20
"""Number of entries that only say how old a round is, at most: a takeover forgets a twentieth of its deadline."""

_MIN_MARK_S = 2.0
"""Seconds between two such entries at least."""

_REPLACED = "the aggregator's key was replaced: what the old one has written counts for nothing; send it again"
"""Why a round of a key that was replaced is abandoned."""

_JUDGED_AT_ONCE = 16
"""Number of contributions a worker that are judged in one look."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round to lead: its journal, and what is needed to do the next thing in it."""

    federation: Federation
    journal: Journal
    """The round's own journal: all that is known of the round."""
    base: Base
    """The latest release."""
    executor: Executor
    """What runs the tasks that screen and fuse."""
    now_s: Callable[[], float]
    """The clock, in seconds since 1970; for people."""
    clock: RoundClock = field(default_factory=RoundClock)
    """What measures the round's age: the same for as long as this process leads it."""
    before: Journal | None = None
    """Journal of the round before, if it was read already."""
    most: int = MOST_CONTRIBUTIONS
    """Number of contributions for which there is the memory to fuse them."""


def advance(round_: Round) -> list[LeaderEvent]:
    """Do the next thing in a round.

    Returns:
        What was appended to its journal; nothing if the round waits, or is over.

    Raises:
        ConflictError: Another aggregator acts on this round, or has published a newer release than `round_.base`.
        StorageError: The store is away; calling again goes on where this call ended.
    """
    state = round_.journal.state(max_age_s=None)
    if round_.journal.needs_head:
        round_.journal.mend_head()
    events = _next(round_, state)
    if any(isinstance(event, Abandoned) for event in events):  # nobody is given up for a list that is seconds old
        events = _next(round_, round_.journal.state())
    for event in events:
        round_.journal.append(event)
    return events


def _next(round_: Round, state: RoundState) -> list[LeaderEvent]:
    if state.opened is None and not state.is_over:
        return [_open(round_)]
    if state.opened is not None and state.is_open and _is_before_root(round_):
        return [Abandoned(reason="the federation has a root now: from the next round on all is signed; send it again")]
    if (
        not state.is_over
        and round_.base.release.round != round_.journal.round
        and _is_by_others(round_, round_.journal)
    ):
        return give_up(state, _REPLACED)
    if state.opened is not None and state.is_open:
        return _look(round_, state, state.opened)
    if state.waiting:
        return [_reject_late(round_.journal.round, state)]
    return [] if state.is_over else _finish(round_, state, age_s=round_.clock.age_s(state))


def _finish(round_: Round, state: RoundState, *, age_s: float) -> list[LeaderEvent]:
    """Do the next thing in a round that takes nothing any more."""
    if state.fused is not None:
        return [_publish(round_, state, state.fused, age_s=age_s)]
    if state.opened is not None and state.opened.retraction is not None:
        return [next_of_retraction(round_.federation, round_.executor, state, round_number=round_.journal.round)]
    mending = _mend(round_, state, age_s=age_s)
    return [_fuse(round_, state, age_s=age_s)] if mending is None else mending


def _is_before_root(round_: Round) -> bool:
    """Tell whether a round was opened before its federation had a root: nobody can prove who wrote its journal."""
    settings = round_.federation.settings
    return settings.root is not None and not settings.is_signed_round(round_.journal.round)


def _is_by_others(round_: Round, journal: Journal) -> bool:
    """Tell whether a key has written into a journal that was replaced since: it may be in a thief's hands."""
    trust = round_.federation.trust
    return trust is not None and journal.is_by_others(trust.known().root.roles["aggregator"].keys)


def _open(round_: Round) -> Opened:
    """Open on the latest release; what an abandoned round admitted on the same base still counts."""
    release, number = round_.base.release, round_.journal.round
    journal = (round_.before or round_.federation.journal(number - 1)) if number > 1 else None
    before = journal.state() if journal else RoundState()
    carried: tuple[Admission, ...] = ()
    refused_by: str | None = None
    seed: str | None = None
    if number > release.round + 1:
        if before.abandoned is None:  # then it made, or is making, a newer release than `round_.base`
            raise ConflictError(f"round {number}: release {release.release} is the latest no more")
        if journal is not None and _is_by_others(round_, journal):
            before = RoundState(abandoned=before.abandoned)  # nobody knows who has admitted what
        carried, refused_by = tuple(before.admitted.values()), _refused_by(round_, before)
        seed = before.opened.sketch_seed if before.opened else None  # sketches that are carried stay comparable
    past, active = hand_on(before)
    return Opened(
        base_release=release.release, base_digest=release.model_digest, opened_at_s=round_.now_s(), carried=carried,
        terms=round_.federation.reopened().settings.terms, refused_by=refused_by, past=past,
        active=_awaited(round_.federation, active),
        sketch_seed=seed or secrets.token_hex(16),
    )  # fmt: skip


def _awaited(federation: Federation, active: tuple[ActiveContributor, ...]) -> tuple[ActiveContributor, ...]:
    """Leave out who was revoked: a round would wait in vain for them."""
    if federation.trust is None or not active:
        return active
    members = federation.trust.refresh().members.members
    return tuple(one for one in active if (who := members.get(one.contributor)) is None or who.revoked is None)


def _refused_by(round_: Round, before: RoundState) -> str | None:
    """Return the method that has refused exactly what an abandoned round admitted."""
    if before.opened is not None and before.opened.retraction is not None:
        return None
    if before.damages or before.fused is not None:  # it was the store's fault
        return None
    if before.closed is not None:
        terms = before.opened.terms if before.opened else None
        return round_.federation.settings.under(terms).method
    if before.opened is not None and len(before.opened.carried) == len(before.admitted):  # nothing new came
        return before.opened.refused_by
    return None


def _look(round_: Round, state: RoundState, opened: Opened) -> list[LeaderEvent]:
    """Screen what came in time, and decide in the same look on what was found; what is damaged does not count."""
    federation, rules = round_.federation, round_.federation.settings.under(opened.terms).rules
    look = round_.clock.look(state)
    state = without_damaged(federation, state)
    came = in_time(state, opened, rules, age_s=look.age_s, found_s=look.found_s)
    verdicts = judge(
        federation, round_.base, round_.executor,
        round_number=round_.journal.round, opened=opened, now_s=round_.now_s(),
        state=within(came, most=round_.most, at_once=_JUDGED_AT_ONCE * round_.executor.num_workers),
    )  # fmt: skip
    timed = [event.model_copy(update={"elapsed_s": look.age_s}) for event in verdicts]
    now = in_time(
        without_damaged(federation, state.after(timed)), opened, rules, age_s=look.age_s, found_s=look.found_s
    )
    # Decided in the same look: else a stream of bad contributions could keep a round open for ever.
    ending = _decide(round_, now, opened, facts_of(now, opened, rules, age_s=look.age_s))
    ends = any(isinstance(event, Closed | Abandoned) for event in ending)  # not an entry that only says its age
    return [*timed, *(settle(round_.base, now, opened) if ends else ()), *ending]


def _decide(round_: Round, state: RoundState, opened: Opened, facts: RoundFacts) -> list[LeaderEvent]:
    terms = round_.federation.settings.under(opened.terms).terms
    verdict, reason = decide(terms.rules, facts)
    if verdict is RoundAction.WAIT and facts.is_idle:  # it has no end, and nobody counts on its rules
        now = round_.federation.reopened().settings.terms
        if now != terms:
            return [Abandoned(reason="the federation's rules were changed before anything new was admitted")]
        return []
    if verdict is RoundAction.WAIT and is_full(state, most=round_.most):
        verdict, reason = RoundAction.FUSE, f"{round_.most} contributions are all that the aggregator's --memory takes"
    match verdict:
        case RoundAction.FUSE:
            notes = describe_standing(round_.federation.under(opened.terms), round_.base, state.admitted.values())
            return [
                Closed(
                    contributions=tuple(sorted(state.admitted)), reason=bounded(f"{reason}{notes}"),
                    elapsed_s=facts.age_s,
                )
            ]  # fmt: skip
        case RoundAction.ABANDON:
            return [Abandoned(reason=reason)]
        case RoundAction.WAIT:
            is_due = facts.age_s - state.marked_s >= max(terms.rules.deadline_s / _NUM_MARKS, _MIN_MARK_S)
            return [Admitted(admissions=(), elapsed_s=facts.age_s)] if is_due else []


def _mend(round_: Round, state: RoundState, *, age_s: float) -> list[LeaderEvent] | None:
    opened = state.opened
    quorum = round_.federation.settings.under(opened.terms if opened else None).rules.quorum
    return mend(round_.federation, state, quorum=quorum, round_number=round_.journal.round, age_s=age_s)


def _fuse(round_: Round, state: RoundState, *, age_s: float) -> Fused | Abandoned | Damaged:
    """Fuse exactly what `closed` lists, but for what the store has damaged since and was left out.

    The manifest that will be published is stored, time and all.
    """
    listed = state.closed.contributions if state.closed else ()
    admissions = [state.admitted[digest] for digest in listed if digest in state.admitted]
    try:
        manifest = fuse_release(
            round_.federation.under(state.opened.terms if state.opened else None),
            round_.base,
            admissions,
            round_.executor,
            round_number=round_.journal.round,
            now_s=round_.now_s(),
        )
    except FusionError as error:  # no fault of the aggregator's: with other contributions the next round may go well
        return Abandoned(reason=bounded(f"the method refused {len(admissions)} contributions: {error}"))
    except DamagedObjectError as error:
        return damaged_in_fusion(round_.federation, admissions, error, now_s=round_.now_s(), age_s=age_s)
    digest = round_.federation.objects.put_value(manifest)
    return Fused(manifest=digest, model_digest=manifest.model_digest, moved=manifest.moved)


def _publish(round_: Round, state: RoundState, fused: Fused, *, age_s: float) -> Published | Abandoned:
    federation = round_.federation
    try:
        manifest = federation.objects.get_value(ReleaseManifest, fused.manifest)
    except DamagedObjectError as error:
        found = federation.find_manifest(round_.base.release.release + 1, fused.manifest)
        if found is None:  # nobody has published it; what was admitted is fused again in the next round
            return Abandoned(reason=bounded(f"what was fused cannot be published: {error}"))
        manifest = found
    federation.require_signer()
    if federation.signer is not None:
        sign_release(
            federation, manifest, round_.executor, signers=federation.signer,
            terms=state.opened.terms if state.opened else None, journal_head=round_.journal.link,
        )  # fmt: skip
    federation.publish(manifest)
    return Published(release=manifest.release, elapsed_s=age_s)


def _reject_late(round_number: int, state: RoundState) -> Rejected:
    rules = state.opened.rules if state.opened else RoundRules()
    again = "if the base is still the latest" if rules.late == "drop" else f"to the open round: {rules.lateness}"
    reason = f"round {round_number} closed before it could be screened; send it again {again}"
    waiting = state.waiting[:MAX_VERDICTS]
    late = [rejection(received, late_reason(state, received, reason), is_late=True) for received in waiting]
    return Rejected(rejections=tuple(late))
