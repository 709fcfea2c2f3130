"""Who may move bytes now: admission by bytes, with a fair share for every caller.

A transfer takes a turn before it takes memory, and a turn costs what the transfer can hold at its most. When all memory
is given out, whoever comes next waits, and gRPC's flow control makes the sender wait, too. Waiting ends in one of three
ways: a turn is given back; a turn is cut; or the caller is told to come again.

A turn is cut only where somebody waits for its memory, where it has moved too little to be worth it (`CROWDED`), and
where its caller holds more than a fair share or is the one who waits: those who wait behind one address compete with
each other, and nobody loses a share to a greedier one. Shares exist only while memory is scarce; a lone caller may have
all of it. Whoever moves next to nothing for minutes is cut in any case.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from coldfuse.errors import GatewayBusyError, TransportError

_LOOK_EVERY_S = 0.25
"""Pause between two looks at whether a turn can be cut for somebody who waits."""

PATIENCE_S = 20.0
"""Seconds that a transfer waits for its turn: longer than slow ones keep theirs, and shorter than calls have."""


@dataclass(frozen=True)
class Pace:
    """How slow a transfer may be."""

    bytes_per_s: float
    """Rate at which bytes earn time."""
    grace_s: float
    """Seconds that a transfer may be ahead of what it has earned; it begins with them."""


CROWDED = Pace(bytes_per_s=16 << 10, grace_s=5.0)
"""What keeps a turn while others wait: the slowest link that coldfuse supports, and a moment's hiccup."""

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
        self.slow_s = _earn(self.slow_s, CROWDED, num_bytes=num_bytes, now_s=now_s)
        self.end_s = _earn(self.end_s, self.least, num_bytes=num_bytes, now_s=now_s)
        self.scope.reschedule(self.end_s)

    def left_s(self, now_s: float) -> float:
        """Return how long it will take at its pace so far."""
        left_bytes = max(self.total_bytes - self.moved_bytes, 0)
        return left_bytes * (now_s - self.began_s) / max(self.moved_bytes, 1)

    def expect(self, num_bytes: int) -> None:
        """Allow for one long message, during which nothing else shows that bytes move."""
        if not self.is_cut and self.can_cut:
            self.slow_s = asyncio.get_running_loop().time() + CROWDED.grace_s + num_bytes / MESSAGE_BYTES_PER_S

    def cut(self) -> None:
        """End it, for somebody who waits."""
        if self.scope is not None:
            self.is_cut = True
            self.scope.reschedule(asyncio.get_running_loop().time())


@dataclass(eq=False)
class _Waiter:
    caller: str
    cost_bytes: int
    total_bytes: int
    since_s: float
    served: asyncio.Future[Turn]


class Turns:
    """Gives out memory. One event loop uses it."""

    def __init__(
        self,
        capacity_bytes: int,
        *,
        max_waiting: int,
        least: Pace,
        max_turns: int | None = None,
        can_cut: bool = True,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Begin with everything free.

        Args:
            capacity_bytes: What all turns may cost together.
            max_waiting: How many may wait; when there are more, the last one of the greediest caller is sent away.
            least: Pace below which a turn is cut although nobody waits.
            max_turns: How many there may be at a time; None: as many as fit.
            can_cut: False: turns end only by themselves.
            patience_s: Seconds that one waits before it is told to come again.
        """
        self._capacity_bytes = capacity_bytes
        self._max_turns = max_turns
        self._can_cut = can_cut
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._least = least
        self._turns: set[Turn] = set()
        self._waiters: list[_Waiter] = []
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def take(self, caller: str, cost_bytes: int, *, total_bytes: int = 0) -> AsyncIterator[Turn]:
        """Wait for a turn, and hold it for the block.

        Args:
            caller: Who takes it.
            cost_bytes: What it may hold at its most.
            total_bytes: How many bytes will move in all.

        Raises:
            GatewayBusyError: None came free in time, or it was cut for somebody else.
            TransportError: It moved next to nothing for too long.
        """
        loop = asyncio.get_running_loop()
        cost_bytes = min(cost_bytes, self._capacity_bytes)  # what is larger has all of it to itself
        turn = await self._wait(_Waiter(caller, cost_bytes, total_bytes, loop.time(), loop.create_future()))
        try:
            async with asyncio.timeout_at(turn.end_s) as turn.scope:
                yield turn
        except TimeoutError:
            raise self._why_cut(turn) from None
        finally:
            self._end(turn)

    def shrink(self, turn: Turn, cost_bytes: int) -> None:
        """Give back what a turn needs no longer."""
        turn.cost_bytes = min(turn.cost_bytes, cost_bytes)
        self._serve()

    async def _wait(self, waiter: _Waiter) -> Turn:
        self._waiters.append(waiter)
        self._serve()
        if not waiter.served.done():
            self._make_room()
        try:
            async with asyncio.timeout(self._patience_s):
                return await asyncio.shield(waiter.served)
        except TimeoutError:
            self._leave(waiter)
            raise self._busy() from None
        except BaseException:  # cancelled, as its caller has gone, or sent away
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """Take back what a waiter was given at the very moment at which it went away."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            waiter.served.cancel()
        elif not waiter.served.cancelled() and waiter.served.exception() is None:
            self._end(waiter.served.result())

    def _serve(self) -> None:
        """Give turns to those who wait, callers who hold least first."""
        while self._waiters and (self._max_turns is None or len(self._turns) < self._max_turns):
            held = _held_by_caller(self._turns)
            waiter = min(self._waiters, key=lambda each: held[each.caller])  # the first of those who hold as little
            if sum(held.values()) + waiter.cost_bytes > self._capacity_bytes:
                return
            self._waiters.remove(waiter)
            waiter.served.set_result(self._begin(waiter))

    def _begin(self, waiter: _Waiter) -> Turn:
        now_s = asyncio.get_running_loop().time()
        turn = Turn(
            caller=waiter.caller, cost_bytes=waiter.cost_bytes, total_bytes=waiter.total_bytes,
            began_s=now_s, least=self._least,
            slow_s=now_s + CROWDED.grace_s, end_s=now_s + self._least.grace_s, can_cut=self._can_cut,
        )  # fmt: skip
        self._turns.add(turn)
        return turn

    def _end(self, turn: Turn) -> None:
        self._turns.discard(turn)
        self._serve()

    def _make_room(self) -> None:
        if len(self._waiters) > self._max_waiting:
            waiter = greediest_last([each.caller for each in self._waiters])
            self._waiters.pop(waiter).served.set_exception(self._busy())
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """While somebody waits, cut what is too slow: one turn for each who waits."""
        while self._waiters:
            now_s = asyncio.get_running_loop().time()
            share_bytes = self._capacity_bytes / len({each.caller for each in (*self._turns, *self._waiters)})
            for waiter in self._waiters:
                has_waited = now_s - waiter.since_s >= CROWDED.grace_s
                if victim := find_victim(
                    self._turns, waiter.caller, share_bytes=share_bytes, now_s=now_s, has_waited=has_waited
                ):
                    victim.cut()
            await asyncio.sleep(_LOOK_EVERY_S)

    def _busy(self) -> GatewayBusyError:
        return GatewayBusyError(
            f"the gateway takes as many transfers as it can ({len(self._turns)} run, {len(self._waiters)} wait); "
            "try again later"
        )

    def _why_cut(self, turn: Turn) -> TransportError:
        if turn.is_cut:
            return GatewayBusyError(
                "this transfer moved too little while others waited for their turn, and was cut off; try again later"
            )
        return TransportError(f"nothing came for {self._least.grace_s:.0f} s, or next to nothing; send the part again")


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
    held = _held_by_caller(turns)
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


def _held_by_caller(turns: Collection[Turn]) -> Counter[str]:
    held: Counter[str] = Counter()
    for turn in turns:
        held[turn.caller] += turn.cost_bytes
    return held


def _earn(until_s: float, pace: Pace, *, num_bytes: int, now_s: float) -> float:
    """Return until when a transfer may go on that has moved so many bytes now."""
    return min(until_s + num_bytes / pace.bytes_per_s, now_s + pace.grace_s)
