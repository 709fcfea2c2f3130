"""Judge what waits in an open round: who is asked to be screened, in which order, and which verdicts follow.

What can be said of a contribution alone, or beside those that came before it, is said at once: it is admitted, or
rejected for a reason of its own, as a copy, or because an operator has quarantined its contributor. Whether a delta is
too long can be said only beside all others of the round. So one that looks too long is *held*: it has no verdict, and
does not count, until others make it look like one of them, or the round ends and it is rejected. An admission is never
taken back for its length: one that came before there was anything to compare it with is shortened when it is fused
(`standing`). So everybody gets one verdict, and what is fused follows from the set that is fused, not from its order.

Only an operator takes an admission back while the round is still open, by a quarantine or by revoking a member.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coldfuse.aggregator.meter import LayerGroups
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.proving import Proven, prove
from coldfuse.aggregator.screen import Screening, bounded, screen
from coldfuse.core.contribution import Admission, Measured, Rejection
from coldfuse.core.copies import Known
from coldfuse.core.damage import Damage, Damaged
from coldfuse.core.lengths import Bounds
from coldfuse.core.round import Admitted, Held, LeaderEvent, Opened, Received, Rejected, RoundState
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.engine.execution import Executor
from coldfuse.engine.low_rank import find_low_rank
from coldfuse.engine.variances import find_variances
from coldfuse.registry.federation import Federation
from coldfuse.registry.quarantine import read_quarantine

MAX_VERDICTS = 500
"""Maximum number of verdicts in one entry: even with the longest reasons it must stay below `MAX_MANIFEST_BYTES`, the
most that is read of an entry."""

_MAX_DAMAGES = 50
"""The same for contributions that the store has damaged, of which each names up to `damage.MAX_PARTS_NAMED` parts."""

_UNLIKE = "its delta is longer than those of others that were there while the round was open; train fewer steps"
"""Why a contribution is rejected whose length was an outlier until the round ended."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What is judged, and by what."""

    federation: Federation
    base: Base
    executor: Executor
    round: int
    """The round's number."""
    state: RoundState
    opened: Opened


def judge(  # noqa: PLR0913 - what there is to say, by keyword
    federation: Federation,
    base: Base,
    executor: Executor,
    *,
    round_number: int,
    state: RoundState,
    opened: Opened,
    now_s: float = 0.0,
) -> list[LeaderEvent]:
    """Judge what waits: at most one contribution of each contributor at a time, in the order of arrival.

    What the store has damaged of a contribution is no verdict on it: it waits until that was sent again.

    Args:
        federation: Where the contributions lie.
        base: The release that they refer to.
        executor: Runs the tasks that screen.
        round_number: The round's number.
        state: What the round's journal adds up to.
        opened: The entry that opened the round.
        now_s: Seconds since 1970, for people.

    Returns:
        The verdicts, what is held from now on, and what is damaged, as entries of the journal.
    """
    case = _Case(
        federation=federation, base=base, executor=executor, round=round_number, state=state, opened=opened
    )  # fmt: skip
    there = (*state.held.values(), *state.admitted.values())
    proven = prove(federation, state.waiting, there, opened)
    out = _refused(case, proven) | _quarantined(case)
    admitted = [a for a in state.admitted.values() if a.contribution not in out]
    held = [a for a in state.held.values() if a.contribution not in out]
    sound, rejections, damages = _screen(case, _next_of_each(case, out, held))
    sound = proven.admit(sound)
    original, copied = _without_copies([*admitted, *held], sound, opened.screening)
    undecided = [*held, *original]  # none at most looks
    why_long = _too_long([*admitted, *undecided], base, opened.screening) if undecided else {}
    return [
        *_damaged(damages, now_s),
        *_entries(Rejected, "rejections", [*out.values(), *_served(case, out, admitted), *rejections, *copied]),
        *_entries(Held, "admissions", [a for a in original if a.contribution in why_long]),
        *_entries(Admitted, "admissions", [a for a in undecided if a.contribution not in why_long]),
    ]


def settle(base: Base, state: RoundState, opened: Opened) -> list[LeaderEvent]:
    """Return the verdicts on what is held, for a round that ends now with what its journal adds up to."""
    if not state.held:
        return []
    why_long = _too_long([*state.admitted.values(), *state.held.values()], base, opened.screening)
    settled = [_of(a, why_long.get(a.contribution, _UNLIKE)) for a in state.held.values()]
    return _entries(Rejected, "rejections", settled)


def screening_of(store_url: str, base: Base, *, round_number: int, opened: Opened) -> Screening:
    """Return what the screenings of a round share."""
    headers = base.checkpoint.headers.values()
    return Screening(
        store_url=store_url, round=round_number, opened=opened, schema=base.schema, tied=base.tied,
        products=find_low_rank(base.checkpoint), variances=find_variances(base.checkpoint),
        max_header_bytes=4 * sum(header.size_bytes for header in headers) + (64 << 10),
    )  # fmt: skip


def rejection(received: Received, reason: str, *, is_late: bool = False) -> Rejection:
    """Return the rejection of a contribution that nobody needs to read for it."""
    return Rejection(
        contribution=received.contribution,
        contributor=received.contributor,
        display_name=received.display_name,
        reason=reason,
        is_late=is_late,
    )


def _refused(case: _Case, proven: Proven) -> dict[str, Rejection]:
    """Return the rejections of what no member has signed who may contribute, or what was revoked since, by digest."""
    state, why = case.state, {digest: bounded(reason) for digest, reason in proven.reasons.items()}
    found = {r.contribution: rejection(r, why[r.contribution]) for r in state.waiting if r.contribution in why}
    there = (*state.held.values(), *state.admitted.values())
    return found | {a.contribution: _of(a, why[a.contribution]) for a in there if a.contribution in why}


def _quarantined(case: _Case) -> dict[str, Rejection]:
    """Return the rejections of all that came from whom an operator has quarantined, by digest."""
    state = case.state
    if not (state.waiting or state.held or state.admitted):
        return {}
    names = read_quarantine(case.federation.store).names
    if not names:
        return {}
    why = {name: bounded(f"{name} is quarantined by the operator: {entry.reason}") for name, entry in names.items()}
    found = {r.contribution: rejection(r, why[r.contributor]) for r in state.waiting if r.contributor in why}
    there = (*state.held.values(), *state.admitted.values())
    return found | {a.contribution: _of(a, why[a.contributor]) for a in there if a.contributor in why}


def _served(case: _Case, out: Mapping[str, Rejection], admitted: Sequence[Admission]) -> list[Rejection]:
    served = {admission.contributor: admission.contribution for admission in admitted}
    return [
        rejection(r, f"{r.contributor} has contributed to this base already ({served[r.contributor][:12]})")
        for r in case.state.waiting
        if r.contributor in served and r.contribution not in out
    ]


def _next_of_each(case: _Case, out: Mapping[str, Rejection], held: Sequence[Admission]) -> list[Received]:
    """Return what is screened now; a contributor's second try comes in the next look, if the first was rejected."""
    there = {a.contributor for a in (*case.state.admitted.values(), *held) if a.contribution not in out}
    first: dict[str, Received] = {}
    for received in case.state.waiting:
        if received.contributor not in there and received.contribution not in out:
            first.setdefault(received.contributor, received)
    return list(first.values())[:MAX_VERDICTS]


def _screen(case: _Case, waiting: Sequence[Received]) -> tuple[list[Admission], list[Rejection], list[Damage]]:
    """Return what is sound by itself, in the order of arrival, what is not, and what the store has damaged."""
    screening = screening_of(case.federation.store.url, case.base, round_number=case.round, opened=case.opened)
    items = [(r.contribution, r.contributor) for r in waiting]
    verdicts = dict(case.executor.run(screen, screening, items)) if items else {}
    ordered = [verdicts[index] for index in sorted(verdicts)]
    return (
        [verdict for verdict in ordered if isinstance(verdict, Admission)],
        [verdict for verdict in ordered if isinstance(verdict, Rejection)],
        [verdict for verdict in ordered if isinstance(verdict, Damage)],
    )


def _without_copies(
    there: Iterable[Admission], sound: Sequence[Admission], rules: ScreeningRules
) -> tuple[list[Admission], list[Rejection]]:
    """Return what is no copy of anything before it, and the rejections of copies."""
    if not (rules.is_on and sound):
        return list(sound), []
    known, original, copied = Known(there, rules=rules), list[Admission](), list[Rejection]()
    for admission in sound:
        if reason := known.why_copy(admission):
            copied.append(_of(admission, reason))
        else:
            original.append(_with_note(admission, known.why_alike(admission)))
            known.add(admission)
    return original, copied


def _with_note(admission: Admission, note: str | None) -> Admission:
    return admission if note is None else admission.model_copy(update={"reason": f"{admission.reason}; {note}"})


def _too_long(admissions: Sequence[Admission], base: Base, rules: ScreeningRules) -> dict[str, str]:
    """Return why deltas are too long beside others of their kind or of all, by their contributions' digests."""
    by_kind: dict[str, list[Measured]] = defaultdict(list)
    for admission in admissions:
        if admission.measured is not None:
            by_kind[admission.measured.kind].append(admission.measured)
    bounds = {kind: Bounds.of(measured, rules) for kind, measured in by_kind.items()}
    longest = max((bound for bound in bounds.values() if bound), key=lambda bound: bound.whole[1], default=None)
    others = longest.for_others() if longest else None
    names = LayerGroups(base.schema).names if longest else ()
    found: dict[str, str] = {}
    for admission in admissions:
        bound = (bounds[admission.measured.kind] or others) if admission.measured else None
        if bound and admission.measured and (reason := bound.why_too_long(admission.measured, names)):
            found[admission.contribution] = reason
    return found


def _of(admission: Admission, reason: str) -> Rejection:
    return Rejection(
        contribution=admission.contribution,
        contributor=admission.contributor,
        display_name=admission.display_name,
        reason=bounded(reason),
    )


def _damaged(damages: Sequence[Damage], now_s: float) -> list[LeaderEvent]:
    runs = (tuple(damages[first : first + _MAX_DAMAGES]) for first in range(0, len(damages), _MAX_DAMAGES))
    return [Damaged(damages=some, found_at_s=now_s) for some in runs]


def _entries(
    kind: type[Rejected] | type[Admitted] | type[Held], field: str, values: Sequence[Admission | Rejection]
) -> list[LeaderEvent]:
    """Cut verdicts into entries that can be read."""
    runs = (tuple(values[first : first + MAX_VERDICTS]) for first in range(0, len(values), MAX_VERDICTS))
    return [kind.model_validate({field: some}) for some in runs]
