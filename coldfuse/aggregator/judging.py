"""Judge what waits in an open round: who is asked to be screened, in which order, and which verdicts follow."""

from __future__ import annotations

from coldfuse.aggregator.model import Base
from coldfuse.aggregator.screen import Screening, screen
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.damage import Damage, Damaged
from coldfuse.core.round import Admitted, LeaderEvent, Opened, Received, Rejected, RoundState
from coldfuse.engine.execution import Executor
from coldfuse.registry.federation import Federation

MAX_VERDICTS = 500
"""Maximum number of verdicts in one entry: even with the longest reasons it must stay below `MAX_MANIFEST_BYTES`, the
most that is read of an entry."""


def judge(  # noqa: PLR0913 - what there is to say, by keyword
    federation: Federation,
    base: Base,
    executor: Executor,
    *,
    round_number: int,
    state: RoundState,
    opened: Opened,
    now_s: float,
) -> list[LeaderEvent]:
    """Judge what waits: at most one contribution of each contributor at a time, in the order of arrival.

    Args:
        federation: Where the contributions lie.
        base: The release that they refer to.
        executor: Runs the tasks that screen.
        round_number: The round's number.
        state: What the round's journal adds up to.
        opened: The entry that opened the round.
        now_s: Seconds since 1970.

    Returns:
        The verdicts as entries of the journal.
    """
    served = {admission.contributor: admission.contribution for admission in state.admitted.values()}
    rejections = [
        rejection(r, f"{r.contributor} has contributed to this base already ({served[r.contributor][:12]})")
        for r in state.waiting
        if r.contributor in served
    ]
    first: dict[str, Received] = {}  # a contributor's second try is judged in the next look, if the first was rejected
    for received in state.waiting:
        if received.contributor not in served:
            first.setdefault(received.contributor, received)
    items = [(r.contribution, r.contributor) for r in first.values()][:MAX_VERDICTS]
    screening = Screening(
        store_url=federation.store.url, round=round_number, opened=opened, schema=base.schema, tied=base.tied,
        max_header_bytes=2 * sum(header.size_bytes for header in base.checkpoint.headers.values()) + (64 << 10),
    )  # fmt: skip
    verdicts = [verdict for _, verdict in executor.run(screen, screening, items)] if items else []
    admissions = [verdict for verdict in verdicts if isinstance(verdict, Admission)]
    rejections += [verdict for verdict in verdicts if isinstance(verdict, Rejection)]
    events: list[LeaderEvent] = []
    if damages := [verdict for verdict in verdicts if isinstance(verdict, Damage)]:
        events.append(Damaged(damages=tuple(damages), found_at_s=now_s))
    if rejections:
        events.append(Rejected(rejections=tuple(rejections[:MAX_VERDICTS])))
    if admissions:
        events.append(Admitted(admissions=tuple(admissions)))
    return events


def rejection(received: Received, reason: str, *, is_late: bool = False) -> Rejection:
    """Return the rejection of a contribution that nobody needs to read for it."""
    return Rejection(
        contribution=received.contribution,
        contributor=received.contributor,
        display_name=received.display_name,
        reason=reason,
        is_late=is_late,
    )
