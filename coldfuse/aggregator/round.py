"""A round, from opening to the next release.

`advance` does the next thing that the round's journal asks for. All that it knows it reads from the journal, and each
thing ends in one entry: killed between any two lines, another aggregator calls `advance` and goes on with the same
bytes. Late contributions: a gateway checks that the round is open, records the contribution, and checks again; the
leader closes the round, and then judges what was recorded before that. So a contribution that was acknowledged gets a
verdict, and one that came too late is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

from coldfuse.aggregator.judging import MAX_VERDICTS, judge, rejection
from coldfuse.aggregator.mending import damaged_in_fusion, late_reason, mend, without_damaged
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.release import fuse_release
from coldfuse.aggregator.screen import bounded
from coldfuse.core.contribution import Admission
from coldfuse.core.damage import Damaged
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import (
    Abandoned,
    Admitted,
    Closed,
    Fused,
    LeaderEvent,
    Opened,
    Published,
    Rejected,
    RoundAction,
    RoundState,
    decide,
)
from coldfuse.engine.execution import Executor
from coldfuse.errors import ConflictError, DamagedObjectError, FusionError
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal


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
    """The clock, in seconds since 1970."""


def advance(round_: Round) -> list[LeaderEvent]:
    """Do the next thing in a round.

    Returns:
        What was appended to its journal; nothing if the round waits, or is over.

    Raises:
        ConflictError: Another aggregator acts on this round, or has published a newer release than `round_.base`.
        StorageError: The store is away; calling again goes on where this call ended.
    """
    state = round_.journal.state()
    if round_.journal.needs_head:
        round_.journal.mend_head()
    events = _next(round_, state)
    for event in events:
        round_.journal.append(event)
    return events


def _next(round_: Round, state: RoundState) -> list[LeaderEvent]:
    if state.opened is None and not state.is_over:
        return [_open(round_)]
    if state.opened is not None and state.is_open:
        verdicts = judge(
            round_.federation, round_.base, round_.executor,
            round_number=round_.journal.round, state=without_damaged(round_.federation, state), opened=state.opened,
            now_s=round_.now_s(),
        )  # fmt: skip
        new = {a.contribution for event in verdicts if isinstance(event, Admitted) for a in event.admissions}
        # Decided in the same look: else a stream of bad contributions could keep a round open for ever.
        return [*verdicts, *_decide(round_, state.admitted.keys() | new, state.opened)]
    if state.waiting:
        return [_reject_late(round_.journal.round, state)]
    if state.is_over:
        return []
    if state.fused is not None:
        return [_publish(round_, state.fused)]
    mending = _mend(round_, state)
    return [_fuse(round_, state)] if mending is None else mending


def _open(round_: Round) -> Opened:
    """Open on the latest release; what an abandoned round admitted on the same base still counts."""
    release = round_.base.release
    carried: tuple[Admission, ...] = ()
    refused_by: str | None = None
    if round_.journal.round > release.round + 1:
        before = round_.federation.journal(round_.journal.round - 1).state()
        if before.abandoned is None:  # then it made, or is making, a newer release than `round_.base`
            raise ConflictError(f"round {round_.journal.round}: release {release.release} is the latest no more")
        carried, refused_by = tuple(before.admitted.values()), _refused_by(round_, before)
    return Opened(
        base_release=release.release, base_digest=release.model_digest, opened_at_s=round_.now_s(), carried=carried,
        terms=round_.federation.reopened().settings.terms, refused_by=refused_by,
    )  # fmt: skip


def _refused_by(round_: Round, before: RoundState) -> str | None:
    """Return the method that has refused exactly what an abandoned round admitted."""
    if before.damages or before.fused is not None:  # it was the store's fault
        return None
    if before.closed is not None:
        terms = before.opened.terms if before.opened else None
        return round_.federation.settings.under(terms).method
    if before.opened is not None and len(before.opened.carried) == len(before.admitted):  # nothing new came
        return before.opened.refused_by
    return None


def _decide(round_: Round, admitted: Set[str], opened: Opened) -> list[LeaderEvent]:
    terms = round_.federation.settings.under(opened.terms).terms
    age_s, num_carried = round_.now_s() - opened.opened_at_s, len(opened.carried)
    verdict, reason = decide(
        terms.rules, admitted=len(admitted), carried=num_carried, is_refused=opened.is_refused, age_s=age_s
    )
    if verdict is RoundAction.WAIT and len(admitted) == num_carried:  # it has no end, and nobody counts on its rules
        now = round_.federation.reopened().settings.terms
        if now != terms:
            return [Abandoned(reason="the federation's rules were changed before anything new was admitted")]
    match verdict:
        case RoundAction.FUSE:
            return [Closed(contributions=tuple(sorted(admitted)), reason=reason)]
        case RoundAction.ABANDON:
            return [Abandoned(reason=reason)]
        case RoundAction.WAIT:
            return []


def _mend(round_: Round, state: RoundState) -> list[LeaderEvent] | None:
    opened = state.opened
    quorum = round_.federation.settings.under(opened.terms if opened else None).rules.quorum
    return mend(
        round_.federation, state, quorum=quorum, round_number=round_.journal.round, now_s=round_.now_s()
    )  # fmt: skip


def _fuse(round_: Round, state: RoundState) -> Fused | Abandoned | Damaged:
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
        return damaged_in_fusion(round_.federation, admissions, error, now_s=round_.now_s())
    digest = round_.federation.objects.put_value(manifest)
    return Fused(manifest=digest, model_digest=manifest.model_digest, moved=manifest.moved)


def _publish(round_: Round, fused: Fused) -> Published | Abandoned:
    try:
        manifest = round_.federation.objects.get_value(ReleaseManifest, fused.manifest)
    except DamagedObjectError as error:
        found = round_.federation.find_manifest(round_.base.release.release + 1, fused.manifest)
        if found is None:  # nobody has published it; what was admitted is fused again in the next round
            return Abandoned(reason=bounded(f"what was fused cannot be published: {error}"))
        manifest = found
    round_.federation.publish(manifest)
    return Published(release=manifest.release)


def _reject_late(round_number: int, state: RoundState) -> Rejected:
    reason = f"round {round_number} closed before it could be screened; send it again if the base is still the latest"
    waiting = state.waiting[:MAX_VERDICTS]
    late = [rejection(received, late_reason(state, received, reason), is_late=True) for received in waiting]
    return Rejected(rejections=tuple(late))
