"""A round, from opening to the next release.

`advance` does the next thing that the round's journal asks for. All that it knows it reads from the journal, and each
thing ends in one entry: killed between any two lines, another aggregator calls `advance` and goes on with the same
bytes. Late contributions: a gateway checks that the round is open, records the contribution, and checks again; the
leader closes the round, and then judges what was recorded before that. So a contribution that was acknowledged gets a
verdict, and one that came too late is told so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from coldfuse.aggregator.judging import MAX_VERDICTS, judge, rejection, settle
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.release import MOST_CONTRIBUTIONS, describe_standing, fuse_release
from coldfuse.aggregator.screen import bounded
from coldfuse.core.contribution import Admission
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.room import is_full, within
from coldfuse.core.round import (
    Abandoned,
    Closed,
    Fused,
    LeaderEvent,
    Opened,
    Published,
    Received,
    Rejected,
    RoundAction,
    RoundState,
    decide,
)
from coldfuse.engine.execution import Executor
from coldfuse.errors import ConflictError, FusionError
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal

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
    """The clock, in seconds since 1970."""
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
    events = _next(round_, round_.journal.state(max_age_s=None))
    if any(isinstance(event, Abandoned) for event in events):  # nobody is given up for a list that is seconds old
        events = _next(round_, round_.journal.state())
    for event in events:
        round_.journal.append(event)
    return events


def _next(round_: Round, state: RoundState) -> list[LeaderEvent]:
    if state.opened is None:
        return [_open(round_)]
    if state.is_open:
        verdicts = judge(
            round_.federation, round_.base, round_.executor,
            round_number=round_.journal.round, opened=state.opened,
            state=within(state, most=round_.most, at_once=_JUDGED_AT_ONCE * round_.executor.num_workers),
        )  # fmt: skip
        now = state.after(verdicts)
        # Decided in the same look: else a stream of bad contributions could keep a round open for ever.
        ending = _decide(round_, now, state.opened)
        return [*verdicts, *(settle(round_.base, now, state.opened) if ending else ()), *ending]
    if state.waiting:
        return [_reject_late(round_.journal.round, state.waiting)]
    if state.is_over:
        return []
    if state.fused is None:
        return [_fuse(round_, state)]
    return [_publish(round_, state.fused)]


def _open(round_: Round) -> Opened:
    """Open on the latest release; what an abandoned round admitted on the same base still counts."""
    release = round_.base.release
    carried: tuple[Admission, ...] = ()
    refused_by: str | None = None
    seed: str | None = None
    if round_.journal.round > release.round + 1:
        before = round_.federation.journal(round_.journal.round - 1).state()
        if before.abandoned is None:  # then it made, or is making, a newer release than `round_.base`
            raise ConflictError(f"round {round_.journal.round}: release {release.release} is the latest no more")
        carried, refused_by = tuple(before.admitted.values()), _refused_by(round_, before)
        seed = before.opened.sketch_seed if before.opened else None  # sketches that are carried stay comparable
    return Opened(
        base_release=release.release, base_digest=release.model_digest, opened_at_s=round_.now_s(), carried=carried,
        terms=round_.federation.reopened().settings.terms, refused_by=refused_by,
        sketch_seed=seed or secrets.token_hex(16),
    )  # fmt: skip


def _refused_by(round_: Round, before: RoundState) -> str | None:
    """Return the method that has refused exactly what an abandoned round admitted."""
    if before.closed is not None:
        terms = before.opened.terms if before.opened else None
        return round_.federation.settings.under(terms).method
    if before.opened is not None and len(before.opened.carried) == len(before.admitted):  # nothing new came
        return before.opened.refused_by
    return None


def _decide(round_: Round, state: RoundState, opened: Opened) -> list[LeaderEvent]:
    terms = round_.federation.settings.under(opened.terms).terms
    admitted = state.admitted.keys()
    age_s, num_carried = round_.now_s() - opened.opened_at_s, len(state.carried)
    verdict, reason = decide(
        terms.rules, admitted=len(admitted), carried=num_carried, is_refused=state.is_refused, age_s=age_s
    )
    if verdict is RoundAction.WAIT and len(admitted) == num_carried:  # it has no end, and nobody counts on its rules
        now = round_.federation.reopened().settings.terms
        if now != terms:
            return [Abandoned(reason="the federation's rules were changed before anything new was admitted")]
    if verdict is RoundAction.WAIT and is_full(state, most=round_.most):
        verdict, reason = RoundAction.FUSE, f"{round_.most} contributions are all that the aggregator's --memory takes"
    match verdict:
        case RoundAction.FUSE:
            notes = describe_standing(round_.federation.under(opened.terms), round_.base, state.admitted.values())
            return [Closed(contributions=tuple(sorted(admitted)), reason=bounded(f"{reason}{notes}"))]
        case RoundAction.ABANDON:
            return [Abandoned(reason=reason)]
        case RoundAction.WAIT:
            return []


def _fuse(round_: Round, state: RoundState) -> Fused | Abandoned:
    """Fuse exactly what `closed` lists, and store the manifest that will be published, time and all."""
    admissions = [state.admitted[digest] for digest in state.closed.contributions] if state.closed else []
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
    digest = round_.federation.objects.put_value(manifest)
    return Fused(manifest=digest, model_digest=manifest.model_digest, moved=manifest.moved)


def _publish(round_: Round, fused: Fused) -> Published:
    manifest = round_.federation.objects.get_value(ReleaseManifest, fused.manifest)
    round_.federation.publish(manifest)
    return Published(release=manifest.release)


def _reject_late(round_number: int, waiting: list[Received]) -> Rejected:
    reason = f"round {round_number} closed before it could be screened; send it again if the base is still the latest"
    late = [rejection(received, reason, is_late=True) for received in waiting[:MAX_VERDICTS]]
    return Rejected(rejections=tuple(late))
