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

from coldfuse.aggregator.model import Base
from coldfuse.aggregator.release import fuse_release
from coldfuse.aggregator.screen import Screening, printable, screen
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import (
    Abandoned,
    Admitted,
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

MAX_VERDICTS = 500
"""In one entry: even with the longest reasons it must be short enough to be read again, see `codec.manifests`."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round's surroundings."""

    federation: Federation
    journal: Journal
    base: Base
    executor: Executor
    now_s: Callable[[], float]
    """Seconds since 1970."""


def advance(this: Round) -> list[LeaderEvent]:
    """Do the next thing in this round; return what was appended to its journal (nothing: it waits, or is over)."""
    events = _next(this, this.journal.state())
    for event in events:
        this.journal.append(event)
    return events


def _next(this: Round, state: RoundState) -> list[LeaderEvent]:
    if state.opened is None:
        return [_open(this)]
    if state.is_open:
        verdicts = _screen(this, state, state.opened)
        new = {a.contribution for event in verdicts if isinstance(event, Admitted) for a in event.admissions}
        # Decided in the same look, or a stream of bad contributions could keep a round open for ever.
        return [*verdicts, *_decide(this, state.admitted.keys() | new, state.opened)]
    if state.waiting:
        return [_reject_late(this.journal.round, state.waiting)]
    if state.is_over:
        return []
    if state.fused is None:
        return [_fuse(this, state)]
    return [_publish(this, state.fused)]


def _open(this: Round) -> Opened:
    """Open on the latest release; what an abandoned round admitted on the same base still counts."""
    release = this.base.release
    carried: tuple[Admission, ...] = ()
    if this.journal.round > release.round + 1:
        before = this.federation.journal(this.journal.round - 1).state()
        if before.abandoned is None:  # then it made, or makes, a newer release than the one in this hand
            raise ConflictError(f"round {this.journal.round}: release {release.release} is the latest no more")
        carried = tuple(before.admitted.values())
    return Opened(
        base_release=release.release, base_digest=release.model_digest, opened_at_s=this.now_s(), carried=carried
    )


def _screen(this: Round, state: RoundState, opened: Opened) -> list[LeaderEvent]:
    """Judge what waits: at most one contribution of each contributor at a time, in the order of arrival."""
    served = {admission.contributor: admission.contribution for admission in state.admitted.values()}
    rejections = [
        _rejection(r, f"{r.contributor} has contributed to this base already ({served[r.contributor][:12]})")
        for r in state.waiting
        if r.contributor in served
    ]
    first: dict[str, Received] = {}
    for received in state.waiting:
        if received.contributor not in served:
            first.setdefault(received.contributor, received)
    items = [(r.contribution, r.contributor) for r in first.values()][:MAX_VERDICTS]
    screening = Screening(
        store_url=this.federation.store.url, round=this.journal.round, opened=opened, schema=this.base.schema,
        tied=this.base.tied,
        max_header_bytes=2 * sum(header.size_bytes for header in this.base.checkpoint.headers.values()) + (64 << 10),
    )  # fmt: skip
    verdicts = [verdict for _, verdict in this.executor.run(screen, screening, items)] if items else []
    admissions = [verdict for verdict in verdicts if isinstance(verdict, Admission)]
    rejections += [verdict for verdict in verdicts if isinstance(verdict, Rejection)]
    events: list[LeaderEvent] = []
    if rejections:
        events.append(Rejected(rejections=tuple(rejections[:MAX_VERDICTS])))
    if admissions:
        events.append(Admitted(admissions=tuple(admissions)))
    return events


def _decide(this: Round, admitted: Set[str], opened: Opened) -> list[LeaderEvent]:
    rules = this.federation.settings.rules
    age_s = this.now_s() - opened.opened_at_s
    verdict, reason = decide(rules, admitted=len(admitted), carried=len(opened.carried), age_s=age_s)
    match verdict:
        case RoundAction.FUSE:
            return [Closed(contributions=tuple(sorted(admitted)), reason=reason)]
        case RoundAction.ABANDON:
            return [Abandoned(reason=reason)]
        case RoundAction.WAIT:
            return []


def _fuse(this: Round, state: RoundState) -> Fused | Abandoned:
    """Fuse exactly what `closed` lists, and store the manifest that will be published, time and all."""
    admissions = [state.admitted[digest] for digest in state.closed.contributions] if state.closed else []
    try:
        manifest = fuse_release(
            this.federation, this.base, admissions, this.executor, round_number=this.journal.round, now_s=this.now_s()
        )
    except FusionError as error:  # no fault of the aggregator's: with other contributions the next round may go well
        return Abandoned(reason=printable(f"the method refused {len(admissions)} contributions: {error}"))
    digest = this.federation.objects.put_value(manifest)
    return Fused(manifest=digest, model_digest=manifest.model_digest, moved=manifest.moved)


def _publish(this: Round, fused: Fused) -> Published:
    manifest = this.federation.objects.get_value(ReleaseManifest, fused.manifest)
    this.federation.publish(manifest)
    return Published(release=manifest.release)


def _reject_late(round_number: int, waiting: list[Received]) -> Rejected:
    reason = f"round {round_number} closed before it could be screened; send it again if the base is still the latest"
    late = [_rejection(received, reason, is_late=True) for received in waiting[:MAX_VERDICTS]]
    return Rejected(rejections=tuple(late))


def _rejection(received: Received, reason: str, *, is_late: bool = False) -> Rejection:
    return Rejection(
        contribution=received.contribution, contributor=received.contributor, reason=reason, is_late=is_late
    )
