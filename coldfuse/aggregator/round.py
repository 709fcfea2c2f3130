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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coldfuse.aggregator.at_gate import Gate
from coldfuse.aggregator.ending import end_rolled_back, give_up, is_used_up, reject_late
from coldfuse.aggregator.examining import Examiner
from coldfuse.aggregator.gate import find_candidate, fused_before, next_at_gate, too_few_left
from coldfuse.aggregator.handing_on import awaited, on_line, refused_at_gate, refused_by
from coldfuse.aggregator.judging import judge, settle
from coldfuse.aggregator.mending import damaged_in_fusion, mend, without_damaged
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.release import MOST_CONTRIBUTIONS, describe_standing, fuse_release
from coldfuse.aggregator.replaced import REPLACED, is_before_root, is_by_others
from coldfuse.aggregator.retracting import next_of_retraction
from coldfuse.aggregator.screen import bounded
from coldfuse.aggregator.signing import sign_release
from coldfuse.aggregator.weighing import next_weighing
from coldfuse.core.closing import RoundAction, RoundFacts, decide, facts_of, in_time
from coldfuse.core.contribution import Admission
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.history import hand_on
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.rollback import Rollback
from coldfuse.core.room import is_full, within
from coldfuse.core.round import Abandoned, Admitted, Closed, Fused, LeaderEvent, Opened, Published, RoundState
from coldfuse.engine.execution import Executor
from coldfuse.errors import ConflictError, DamagedObjectError, FusionError
from coldfuse.registry.enrolled import with_enrolled
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.round_clock import RoundClock

_NUM_MARKS = 20
"""Number of entries that only say how old a round is, at most: a takeover forgets a twentieth of its deadline."""

_MIN_MARK_S = 2.0
"""Seconds between two such entries at least."""

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
    rollback: Rollback | None = None
    """The last step back to an older release, as far as is known."""
    examiner: Examiner | None = None
    """Scores what was fused on the operator's suites, where the federation has a gate; None: it has no suites."""


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
    if (ended := _end_early(round_, state)) is not None:
        return ended
    if state.opened is None and not state.is_over:
        return [_open(round_)]
    if state.opened is not None and state.is_open:
        return _look(round_, state, state.opened)
    if state.waiting:
        return [reject_late(round_.journal.round, state)]
    return [] if state.is_over else _finish(round_, state, age_s=round_.clock.age_s(state))


def _finish(round_: Round, state: RoundState, *, age_s: float) -> list[LeaderEvent]:
    """Do the next thing in a round that takes nothing any more: make a release, step by step, or none."""
    if state.opened is not None and state.opened.retraction is not None:
        return _retract(round_, state, age_s=age_s)
    if state.fused is not None:
        return _pass(round_, state, state.fused, age_s=age_s)
    if (too_few := too_few_left(_gate(round_, state, age_s=age_s), state)) is not None:
        return [too_few]
    if (mending := _mend(round_, state, age_s=age_s)) is not None:
        return mending
    admissions = list(state.to_fuse.values())
    try:
        if (weighing := next_weighing(_gate(round_, state, age_s=age_s), state)) is not None:
            return weighing
        return [_fuse(round_, state, admissions)]
    except DamagedObjectError as error:
        return [damaged_in_fusion(round_.federation, admissions, error, now_s=round_.now_s(), age_s=age_s)]


def _retract(round_: Round, state: RoundState, *, age_s: float) -> list[LeaderEvent]:
    """Do the next thing in a round that takes something out: no gate can refuse that."""
    if state.fused is None:
        return [next_of_retraction(round_.federation, round_.executor, state, round_number=round_.journal.round)]
    candidate = find_candidate(round_.federation, round_.base, state.fused)
    return [candidate if isinstance(candidate, Abandoned) else _publish(round_, state, candidate, age_s=age_s)]


def _end_early(round_: Round, state: RoundState) -> list[LeaderEvent] | None:
    """Return how a round ends for a reason of the federation's; None where there is none."""
    ended = end_rolled_back(round_.federation, round_.journal.round, state, round_.rollback)
    if ended is not None or state.is_over:
        return ended
    if state.opened is not None and state.is_open and is_before_root(round_.federation, round_.journal.round):
        return [Abandoned(reason="the federation has a root now: from the next round on all is signed; send it again")]
    if (
        state.opened is not None
        and round_.base.release.round != round_.journal.round
        and is_by_others(round_.federation, round_.journal)
    ):
        return give_up(state, REPLACED)
    return None


def _open(round_: Round) -> Opened:
    """Open on the latest release; what an abandoned round admitted on the same base still counts."""
    release, number = round_.base.release, round_.journal.round
    journal = (round_.before or round_.federation.journal(number - 1)) if number > 1 else None
    before = journal.state() if journal else RoundState()
    carried: tuple[Admission, ...] = ()
    refusing: str | None = None
    refusing_gate: GateRules | None = None
    seed: str | None = None
    last = max(release.round, round_.rollback.round if round_.rollback else 0)
    if last > release.round and number == last + 1 and not before.is_over:
        raise ConflictError(f"round {number}: the one before has yet to end, as the federation has gone back")
    if number > last + 1:
        if before.abandoned is None:  # then it made, or is making, a newer release than `round_.base`
            raise ConflictError(f"round {number}: release {release.release} is the latest no more")
        if journal is not None and is_by_others(round_.federation, journal):
            before = RoundState(abandoned=before.abandoned)  # nobody knows who has admitted what
        carried = tuple(before.admitted.values())
        refusing, refusing_gate = refused_by(round_.federation, before), refused_at_gate(round_.federation, before)
        seed = before.opened.sketch_seed if before.opened else None  # sketches that are carried stay comparable
    past, active = hand_on(before)
    return Opened(
        base_release=release.release, base_digest=release.model_digest, opened_at_s=round_.now_s(), carried=carried,
        terms=round_.federation.reopened().settings.terms, refused_by=refusing, refused_gate=refusing_gate,
        past=on_line(past, release.release),
        active=awaited(round_.federation, active),
        sketch_seed=seed or secrets.token_hex(16),
    )  # fmt: skip


def _look(round_: Round, state: RoundState, opened: Opened) -> list[LeaderEvent]:
    """Screen what came in time, and decide in the same look on what was found; what is damaged does not count."""
    federation, rules = round_.federation, round_.federation.settings.under(opened.terms).rules
    look = round_.clock.look(state)
    state = without_damaged(federation, state)
    waited = with_enrolled(federation, opened)
    came = in_time(state, waited, rules, age_s=look.age_s, found_s=look.found_s)
    verdicts = judge(
        federation, round_.base, round_.executor,
        round_number=round_.journal.round, opened=opened, now_s=round_.now_s(),
        state=within(came, most=round_.most, at_once=_JUDGED_AT_ONCE * round_.executor.num_workers),
    )  # fmt: skip
    timed = [event.model_copy(update={"elapsed_s": look.age_s}) for event in verdicts]
    now = in_time(
        without_damaged(federation, state.after(timed)), waited, rules, age_s=look.age_s, found_s=look.found_s
    )
    # Decided in the same look: else a stream of bad contributions could keep a round open for ever.
    ending = _decide(round_, now, opened, facts_of(now, waited, rules, age_s=look.age_s))
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


def _under(round_: Round, state: RoundState) -> Federation:
    """Return the federation under the terms of the round."""
    return round_.federation.under(state.opened.terms if state.opened else None)


def _mend(round_: Round, state: RoundState, *, age_s: float) -> list[LeaderEvent] | None:
    quorum = _under(round_, state).settings.rules.quorum
    return mend(round_.federation, state, quorum=quorum, round_number=round_.journal.round, age_s=age_s)


def _fuse(round_: Round, state: RoundState, admissions: Sequence[Admission]) -> Fused | Abandoned:
    """Fuse exactly what `closed` lists, but for what the store has damaged since and was left out.

    The manifest that will be published is stored, time and all.
    """
    if (fused := fused_before(round_.federation, state)) is not None:
        return fused
    try:
        manifest = fuse_release(
            _under(round_, state), round_.base, admissions, round_.executor, round_number=round_.journal.round,
            now_s=round_.now_s(),
        )  # fmt: skip
    except FusionError as error:  # no fault of the aggregator's: with other contributions the next round may go well
        return Abandoned(reason=bounded(f"the method refused {len(admissions)} contributions: {error}"))
    digest = round_.federation.objects.put_value(manifest)
    return Fused(manifest=digest, model_digest=manifest.model_digest, moved=manifest.moved)


def _gate(round_: Round, state: RoundState, *, age_s: float) -> Gate:
    federation = _under(round_, state)
    return Gate(
        federation=federation, base=round_.base, executor=round_.executor, examiner=round_.examiner,
        rules=federation.settings.gate or GateRules.off(), quorum=federation.settings.rules.quorum, age_s=age_s,
        number=round_.journal.round, now_s=round_.now_s(),
    )  # fmt: skip


def _pass(round_: Round, state: RoundState, fused: Fused, *, age_s: float) -> list[LeaderEvent]:
    """Do what the gate says, and publish what has passed it."""
    candidate = find_candidate(round_.federation, round_.base, fused)
    if isinstance(candidate, Abandoned):
        return [candidate]
    if (events := next_at_gate(_gate(round_, state, age_s=age_s), state, fused, candidate)) is not None:
        return events
    return [_publish(round_, state, candidate, age_s=age_s)]


def _publish(round_: Round, state: RoundState, manifest: ReleaseManifest, *, age_s: float) -> Published | Abandoned:
    federation = round_.federation
    federation.require_signer()
    if round_.rollback is not None and is_used_up(federation, manifest):
        return Abandoned(reason=f"a round that was rolled back has written release {manifest.release}; it is made anew")
    if federation.signer is not None:
        sign_release(
            federation, manifest, round_.executor, signers=federation.signer,
            terms=state.opened.terms if state.opened else None, journal_head=round_.journal.link,
        )  # fmt: skip
    federation.publish(manifest)
    return Published(release=manifest.release, elapsed_s=age_s)
