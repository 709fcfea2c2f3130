"""What a turn is, and which one is cut when somebody waits: rules on facts alone (see `turns`)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How slow a transfer may be."""

    bytes_per_s: float
    """Rate at which bytes earn time."""
    grace_s: float
    """Seconds that a transfer may be ahead of what it has earned; it begins with them."""


SOON_S = 20.0
"""A transfer that ends within this time is let end: what it has moved would have to move again."""

MESSAGE_BYTES_PER_S = 64 << 10
"""How fast one long message has to leave while others wait."""


@dataclass(eq=False, kw_only=True)
class Turn:
    """The right to hold some memory for a while."""

    caller: str
    """Who holds it."""
    cost_bytes: int
    crowded: Pace
    """Pace below which it may be cut for somebody else."""
    least: Pace
    """Pace below which it is cut although nobody waits."""
    slow_s: float
    """Loop time from which it may be cut for somebody else."""
    end_s: float
    """Loop time at which it is cut in any case."""
    began_s: float
    """Loop time at which it began."""
    total_bytes: int
    """Number of bytes that it is to move in all."""
    moved_bytes: int = 0
    """Number of bytes that it has moved."""
    can_cut: bool = True
    """False for work that goes on although nobody waits for it any more."""
    is_cut: bool = False
    """True once it was cut for somebody else."""
    scope: asyncio.Timeout | None = None
    """What ends it; None until its holder has woken up."""

    def moved(self, num_bytes: int) -> None:
        """Take note of bytes that came or went."""
        self.moved_bytes += num_bytes
        if self.is_cut or self.scope is None:
            return
        now_s = asyncio.get_running_loop().time()
        self.slow_s = earn(self.slow_s, self.crowded, num_bytes=num_bytes, now_s=now_s)
        self.end_s = earn(self.end_s, self.least, num_bytes=num_bytes, now_s=now_s)
        self.scope.reschedule(self.end_s)

    def left_s(self, now_s: float) -> float:
        """Return how long it will take at its pace so far."""
        left_bytes = max(self.total_bytes - self.moved_bytes, 0)
        return left_bytes * (now_s - self.began_s) / max(self.moved_bytes, 1)

    def expect(self, num_bytes: int) -> None:
        """Allow for one long message, during which nothing else shows that bytes move."""
        if not self.is_cut and self.can_cut:
            self.slow_s = asyncio.get_running_loop().time() + self.crowded.grace_s + num_bytes / MESSAGE_BYTES_PER_S

    def cut(self) -> None:
        """End it, for somebody who waits."""
        if self.scope is not None:
            self.is_cut = True
            self.scope.reschedule(asyncio.get_running_loop().time())


def find_victim(
    turns: Collection[Turn], waiting: str, *, share_bytes: float, now_s: float, has_waited: bool
) -> Turn | None:
    """Return the turn that is cut for somebody who waits, if any: of the greediest, the one that has stood the longest.

    Where none stands, whoever has waited and holds less than a share takes the slowest one from who holds more than
    that, unless it ends soon by itself.

    Args:
        turns: Those that run.
        waiting: Who waits.
        share_bytes: What each caller may hold while memory is scarce.
        now_s: Loop time.
        has_waited: True once the waiting has lasted for a while.
    """
    held = held_by_caller(turns)
    open_to_cuts = [turn for turn in turns if turn.can_cut and not turn.is_cut]
    standing = [
        turn
        for turn in open_to_cuts
        if turn.slow_s <= now_s and (turn.caller == waiting or held[turn.caller] > share_bytes)
    ]
    if standing:
        return min(standing, key=lambda turn: (-held[turn.caller], turn.slow_s))
    if not has_waited or held[waiting] >= share_bytes:
        return None
    greedy = [
        turn
        for turn in open_to_cuts
        if held[turn.caller] - turn.cost_bytes >= max(share_bytes, held[waiting] + turn.cost_bytes)
        and turn.left_s(now_s) > SOON_S
    ]
    return min(greedy, key=lambda turn: (-held[turn.caller], -turn.left_s(now_s)), default=None)


def greediest_last(callers: Sequence[str]) -> int:
    """Return the place of the last one of whoever is there most often.

    >>> greediest_last(["a", "b", "a", "c"])
    2
    """
    greediest, _ = Counter(callers).most_common(1)[0]
    return max(place for place, caller in enumerate(callers) if caller == greediest)


def held_by_caller(turns: Collection[Turn]) -> Counter[str]:
    """Return how many bytes each caller holds."""
    held: Counter[str] = Counter()
    for turn in turns:
        held[turn.caller] += turn.cost_bytes
    return held


def earn(until_s: float, pace: Pace, *, num_bytes: int, now_s: float) -> float:
    """Return until when a transfer may go on that has moved so many bytes now."""
    return min(until_s + num_bytes / pace.bytes_per_s, now_s + pace.grace_s)
