"""What the store has damaged of contributions: finding it, waiting for it to be sent again, and going on without."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from coldfuse.aggregator.stored import Stored
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.damage import MAX_PARTS_NAMED, Damage, Damaged, Mending, decide_mending
from coldfuse.core.round import Abandoned, LeaderEvent, Received, Rejected, RoundState
from coldfuse.core.words import printable
from coldfuse.errors import DamagedObjectError
from coldfuse.registry.damage import set_aside
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import Objects

_MAX_SHARING = 50
"""Number of contributions that an entry names for a part that they share: any of them can send it again."""


def find_damages(
    objects: Objects, contribution: str, files: Sequence[Blob] | None, error: DamagedObjectError
) -> Damage:
    """Prove what is damaged of a contribution, and move it out of the way.

    Args:
        objects: The store's objects.
        contribution: The contribution's digest.
        files: Its files, the delta first; None if its manifest is what could not be read.
        error: What was met first.

    Raises:
        DamagedObjectError: Nothing of the contribution is damaged: it was read wrong, or something else is damaged.
    """
    if files is None:
        if set_aside(objects.store, contribution) is None:
            raise error
        return Damage(contribution=contribution, is_manifest_damaged=True, reason=_bounded(error))
    named = [part for blob in files for part in blob.parts]
    parts = [part for part in named if set_aside(objects.store, part.digest)]
    if not parts:
        raise error
    return Damage(contribution=contribution, parts=tuple(parts[:MAX_PARTS_NAMED]), reason=_bounded(error))


def is_mended(objects: Objects, damage: Damage) -> bool:
    """Tell whether what was damaged of a contribution, and moved out of the way, has come again."""
    if damage.is_manifest_damaged and not objects.is_there(damage.contribution):
        return False
    return all(objects.has(part.digest, part.size_bytes) for part in damage.parts)


def without_damaged(federation: Federation, state: RoundState) -> RoundState:
    """Return an open round without what waits for being sent again: it does not count while it is damaged."""
    out = {d.contribution for d in _unmended(federation, state, [r.contribution for r in state.waiting])}
    return replace(state, received={k: r for k, r in state.received.items() if k not in out}) if out else state


def damaged_in_fusion(
    federation: Federation, admissions: Iterable[Admission], error: DamagedObjectError, *, now_s: float, age_s: float
) -> Damaged:
    """Say which contributions are damaged, after a fusion has met damage.

    Args:
        federation: Where they lie.
        admissions: The contributions that were to be fused.
        error: What the fusion met.
        now_s: Seconds since 1970.
        age_s: Age of the round.

    Raises:
        DamagedObjectError: None of them: the base is damaged, its state, or something else.
    """
    digest = error.key.removeprefix("objects/")
    ordered = list(admissions)
    for index, admission in enumerate(ordered):
        if digest == admission.contribution:
            damages = [find_damages(federation.objects, digest, None, error)]
        else:
            files = federation.objects.get_value(Stored, admission.contribution).files
            if not any(part.digest == digest for blob in files for part in blob.parts):
                continue
            damage = find_damages(federation.objects, admission.contribution, files, error)
            damages = [damage, *_sharing(federation, ordered[index + 1 :], digest, damage)]
        return Damaged(damages=tuple(damages[:_MAX_SHARING]), found_at_s=now_s, elapsed_s=age_s)
    raise error


def _sharing(federation: Federation, others: Iterable[Admission], digest: str, damage: Damage) -> Iterator[Damage]:
    """Yield the same of all others who share a damaged part, as of a mask: whoever comes first can bring it."""
    for admission in others:
        with suppress(DamagedObjectError):  # of its manifest, which is met when this is mended
            files = federation.objects.get_value(Stored, admission.contribution).files
            shared = [part for blob in files for part in blob.parts if part.digest == digest]
            if shared:
                yield Damage(contribution=admission.contribution, parts=(shared[0],), reason=damage.reason)


def mend(
    federation: Federation, state: RoundState, *, quorum: int, round_number: int, age_s: float
) -> list[LeaderEvent] | None:
    """Say what happens next in a closed round, if contributions that it closed on are damaged.

    Args:
        federation: Where they lie.
        state: The round's state.
        quorum: Number of contributions that let the round close.
        round_number: The round's number.
        age_s: Its age.

    Returns:
        What is to be appended, nothing while the round waits; None if all is whole, and can be fused.
    """
    if state.closed is None or not state.damages:
        return None
    closed = [digest for digest in state.closed.contributions if digest in state.admitted]
    damaged = _unmended(federation, state, closed)
    if not damaged:
        return None if closed else [Abandoned(reason=f"nothing is left of what round {round_number} closed on")]
    num_whole = len(closed) - len(damaged)
    waited_s = age_s - (state.damages[-1].elapsed_s or 0.0)
    action, reason = decide_mending(
        damaged, num_whole=num_whole, quorum=quorum, waited_s=waited_s, num_tries=len(state.damages)
    )
    if action is Mending.WAIT:
        return []
    late = Rejected(rejections=tuple(_late(state.admitted[damage.contribution], damage) for damage in damaged))
    return [late] if action is Mending.LEAVE_OUT else [late, Abandoned(reason=reason)]


def late_reason(state: RoundState, received: Received, otherwise: str) -> str:
    """Return why a contribution is late: because it was damaged, or the reason that all others are for."""
    damage = state.damaged.get(received.contribution)
    return _why_late(damage) if damage else otherwise


def _unmended(federation: Federation, state: RoundState, among: Collection[str]) -> list[Damage]:
    damages = [state.damaged[digest] for digest in among if digest in state.damaged]
    return [damage for damage in damages if not is_mended(federation.objects, damage)]


def _late(admission: Admission, damage: Damage) -> Rejection:
    return Rejection(
        contribution=admission.contribution, contributor=admission.contributor, display_name=admission.display_name,
        reason=_why_late(damage), is_late=True,
    )  # fmt: skip


def _why_late(damage: Damage) -> str:
    return (
        f"{damage.names} was damaged in the store, and had not come again when its round ended: no fault of yours; "
        "send it again if the base is still the latest"
    )


def _bounded(error: Exception) -> str:
    return printable(str(error)[:2000], instead=" ")
