"""What a round hands to the one after it: the times of past rounds, and who has contributed lately."""

from __future__ import annotations

from coldfuse.core.contribution import Admission
from coldfuse.core.past import ACTIVE_ROUNDS, MAX_ACTIVE, MAX_PAST, ActiveContributor, PastRound
from coldfuse.core.round import Opened, RoundState


def hand_on(before: RoundState) -> tuple[tuple[PastRound, ...], tuple[ActiveContributor, ...]]:
    """Return what the next round knows of the rounds before it: `Opened.past` and `Opened.active`.

    Args:
        before: The round before, which is over. One that made no release hands on what it was handed: what it admitted
            is carried, and counts in the next one. So does one that took something out: it was not opened for anybody.
    """
    opened = before.opened
    if opened is None:
        return (), ()
    if before.abandoned is not None or before.closed is None or opened.retraction is not None:
        return opened.past, opened.active
    fused = [before.admitted[digest] for digest in before.closed.contributions if digest in before.admitted]
    took_s = {admission.contributor: _took_s(before, opened, admission) for admission in fused}
    last_s = max((time for time in took_s.values() if time is not None), default=None)
    this = PastRound(
        base_release=opened.base_release, base_digest=opened.base_digest, last_s=last_s,
        duration_s=before.marked_s if before.closed.elapsed_s is not None else None,
    )  # fmt: skip
    return (this, *opened.past)[:MAX_PAST], _active(opened, took_s)


def _took_s(before: RoundState, opened: Opened, admission: Admission) -> float | None:
    """Return how long after its base's release a contribution had come; None where somebody did not measure."""
    came_s = before.came_s.get(admission.contribution)
    if came_s is None or admission.base_release is None:
        return came_s
    since = [one.duration_s for one in opened.past if one.base_release >= admission.base_release]
    known = [time for time in since if time is not None]
    return came_s + sum(known) if len(known) == len(since) else None


def _active(opened: Opened, took_s: dict[str, float | None]) -> tuple[ActiveContributor, ...]:
    """Return who is active after a round, those first who have been so for longest: nobody displaces them by names."""
    known = {one.contributor: one for one in opened.active}
    active = []
    for contributor, time_s in took_s.items():
        one = known.pop(contributor, None)
        active.append(
            ActiveContributor(
                contributor=contributor,
                usual_s=time_s if time_s is not None or one is None else one.usual_s,
                num_rounds=one.num_rounds + 1 if one else 1,
            )
        )
    absent = [one.model_copy(update={"num_missed": one.num_missed + 1}) for one in known.values()]
    active += [one for one in absent if one.num_missed < ACTIVE_ROUNDS]
    ordered = sorted(active, key=lambda one: (-one.num_rounds, one.num_missed, one.contributor))
    return tuple(ordered[:MAX_ACTIVE])
