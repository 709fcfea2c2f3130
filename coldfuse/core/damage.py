"""Contributions that the store has damaged: what is known of them, and how long their round waits for a repair.

The store is at fault, not the contributor. So a damaged contribution keeps its place: it does not count, its
contributor is asked to send the damaged parts again, and it is judged, or fused, once they are whole. A round that was
closed waits for that no longer than `REPAIR_S`; then it goes on without, or is abandoned, and what was damaged counts
as late.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.blob import Part
from coldfuse.core.timed import Timed
from coldfuse.core.value import Digest, Sentence, Value

REPAIR_S = 300.0
"""Seconds that a closed round waits for a damaged contribution at most: its node asks for the verdict every minute."""

MAX_PARTS_NAMED = 64
"""Number of damaged parts that an entry names; what else is damaged is found once these are whole."""

MAX_REPAIRS = 3
"""Number of times that a contribution is waited for after its round has closed."""


class Damage(Value):
    """What the store has damaged of a contribution."""

    contribution: Digest
    """Digest of its manifest."""
    parts: Annotated[tuple[Part, ...], Field(max_length=MAX_PARTS_NAMED)] = ()
    """Parts of its delta, its mask or its statistics that were damaged and moved out of the way."""
    is_manifest_damaged: bool = False
    """True if its manifest was."""
    reason: Sentence
    """What was found, for people."""

    @property
    def names(self) -> str:
        """What is asked for again, in short."""
        named = [f"part {part.digest[:12]}" for part in self.parts[:3]] + ["its manifest"] * self.is_manifest_damaged
        more = len(self.parts) - 3
        return ", ".join(named) + (f" and {more} more" if more > 0 else "")


class Damaged(Timed):
    """These contributions wait until what the store has damaged of them was sent again."""

    event: Literal["damaged"] = "damaged"
    damages: tuple[Damage, ...]
    found_at_s: float
    """Seconds since 1970, by the aggregator's clock; for people."""


class Mending(Enum):
    """What to do with a closed round of which contributions are damaged."""

    WAIT = "wait"
    LEAVE_OUT = "leave out"
    ABANDON = "abandon"


def decide_mending(
    damaged: Collection[Damage], *, num_whole: int, quorum: int, waited_s: float, num_tries: int
) -> tuple[Mending, str]:
    """Decide what becomes of a closed round, from its numbers alone.

    Args:
        damaged: What is damaged of what was closed on, and has not come again.
        num_whole: Number of the other contributions that it closed on.
        quorum: Number of contributions that let the round close.
        waited_s: Seconds since the last damage was found.
        num_tries: Number of times that damage was found since the round closed.

    Returns:
        What to do, and the reason for people.

    >>> decide_mending([], num_whole=2, quorum=2, waited_s=400.0, num_tries=1)[0]
    <Mending.LEAVE_OUT: 'leave out'>
    """
    what = ", ".join(f"{damage.names} of contribution {damage.contribution[:12]}" for damage in list(damaged)[:3])
    left_s = REPAIR_S - waited_s
    if left_s > 0 and num_tries <= MAX_REPAIRS:
        return Mending.WAIT, f"{what}: damaged in the store; waits {left_s:.0f}s for it to be sent again"
    ending = "was damaged in the store, and had not come again in time"
    if num_whole >= quorum:
        return Mending.LEAVE_OUT, f"{what} {ending}; the round goes on with {num_whole} contributions"
    return Mending.ABANDON, f"{what} {ending}; {num_whole} contributions are left, {quorum} make the quorum"
