"""Rounds that end for a reason of the federation's: whoever has contributed is told, and sends it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coldfuse.aggregator.judging import MAX_VERDICTS, rejection
from coldfuse.aggregator.mending import late_reason
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.federation import RoundRules
from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.rollback import Rollback, is_ended
from coldfuse.core.round import Abandoned, LeaderEvent, Published, Received, Rejected, RoundState
from coldfuse.registry.federation import Federation
from coldfuse.registry.published import is_taken


def give_up(state: RoundState, reason: str, *, also: Iterable[Received] = ()) -> list[LeaderEvent]:
    """Abandon a round; who has contributed is told, and sends it again.

    Args:
        state: The round.
        reason: Why, for all of them.
        also: What nobody has screened, and is told the same.
    """
    there: Sequence[Admission | Received] = [*state.admitted.values(), *state.held.values(), *also]
    late = [
        Rejection(
            contribution=each.contribution, contributor=each.contributor, display_name=each.display_name,
            reason=reason, is_late=True,
        )
        for each in there
    ]  # fmt: skip
    runs = (tuple(late[first : first + MAX_VERDICTS]) for first in range(0, len(late), MAX_VERDICTS))
    return [*(Rejected(rejections=some) for some in runs), Abandoned(reason=reason)]


def end_rolled_back(
    federation: Federation, number: int, state: RoundState, rollback: Rollback | None
) -> list[LeaderEvent] | None:
    """Return how a round ends that began before the federation went back to an older release; None where it goes on.

    Args:
        federation: The federation.
        number: Number of the round.
        state: What its journal adds up to.
        rollback: The last step back, as far as the leader knows of one.
    """
    if rollback is None or state.is_over or (state.opened is None and number > rollback.round):
        return None
    latest = federation.channel("latest")  # anew: a leader that was paused ends no round of the one after it
    now = latest.rollback
    if now is None or not _is_ended(now, number, state, latest):
        return None
    made = _made(federation, state, now)
    if made is not None:  # killed before it could write that down
        return [Published(release=made)]
    return give_up(state, now.ending, also=state.waiting)


def is_used_up(federation: Federation, manifest: ReleaseManifest) -> bool:
    """Tell whether a release's number was used by a leader that had not heard yet that its round has ended."""
    return is_taken(
        federation.store, federation.settings, federation.trust, number=manifest.release, own=manifest
    )  # fmt: skip


def reject_late(round_number: int, state: RoundState) -> Rejected:
    """Return the verdict on what came too late for a round: it may be sent again."""
    rules = state.opened.rules if state.opened else RoundRules()
    again = "if the base is still the latest" if rules.late == "drop" else f"to the open round: {rules.lateness}"
    reason = f"round {round_number} closed before it could be screened; send it again {again}"
    waiting = state.waiting[:MAX_VERDICTS]
    late = [rejection(received, late_reason(state, received, reason), is_late=True) for received in waiting]
    return Rejected(rejections=tuple(late))


def _is_ended(rollback: Rollback, number: int, state: RoundState, latest: Channel) -> bool:
    base = (state.opened.base_release, state.opened.base_digest) if state.opened else None
    if state.opened is not None and state.opened.retraction is not None:  # on an older one: it replaces the latest
        replaces = state.opened.retraction.replaces
        base = (replaces, latest.model_digest if replaces == latest.release else state.opened.base_digest)
    return is_ended(
        rollback, round_number=number, base=base, latest=(latest.release, latest.model_digest, latest.round)
    )  # fmt: skip


def _made(federation: Federation, state: RoundState, rollback: Rollback) -> int | None:
    """Return the number of the release that a round has made, which was out before the step back; None: none was."""
    if state.fused is None or state.opened is None:
        return None
    numbers = range(state.opened.base_release + 1, rollback.newest + 1)
    return next((one for one in numbers if federation.find_manifest(one, state.fused.manifest)), None)
