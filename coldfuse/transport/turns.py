"""Who may move bytes now: admission by bytes, with a fair share for every caller.

A transfer takes a turn before it takes memory, and a turn costs what the transfer can hold at its most. When all memory
is given out, whoever comes next waits, and gRPC's flow control makes the sender wait, too. Waiting ends in one of three
ways: a turn is given back; a turn is cut; or the caller is told to come again.

A turn is cut only where somebody waits for its memory, where it has moved too little to be worth it (`crowded`), and
where its caller holds more than a fair share or is the one who waits: those who wait behind one address compete with
each other, and nobody loses a share to a greedier one. Shares exist only while memory is scarce; a lone caller may have
all of it. Whoever moves next to nothing for minutes is cut in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from coldfuse.errors import GatewayBusyError, TransportError
from coldfuse.transport.shares import Pace, Turn, find_victim, greediest_last, held_by_caller

_LOOK_EVERY_S = 0.25
"""Pause between two looks at whether a turn can be cut for somebody who waits."""

PATIENCE_S = 20.0
"""Seconds that a transfer waits for its turn: longer than slow ones keep theirs, and shorter than calls have."""


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
        crowded: Pace,
        least: Pace,
        max_turns: int | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Begin with everything free.

        Args:
            capacity_bytes: What all turns may cost together.
            max_waiting: How many may wait; when there are more, the last one of the greediest caller is sent away.
            crowded: Pace below which a turn may be cut for somebody who waits.
            least: Pace below which a turn is cut although nobody waits.
            max_turns: How many there may be at a time; None: as many as fit.
            patience_s: Seconds that one waits before it is told to come again.
        """
        self._capacity_bytes = capacity_bytes
        self._max_turns = max_turns
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._crowded = crowded
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
            held = held_by_caller(self._turns)
            waiter = min(self._waiters, key=lambda each: held[each.caller])  # the first of those who hold as little
            if sum(held.values()) + waiter.cost_bytes > self._capacity_bytes:
                return
            self._waiters.remove(waiter)
            waiter.served.set_result(self._begin(waiter))

    def _begin(self, waiter: _Waiter) -> Turn:
        now_s = asyncio.get_running_loop().time()
        turn = Turn(
            caller=waiter.caller, cost_bytes=waiter.cost_bytes, total_bytes=waiter.total_bytes,
            began_s=now_s, crowded=self._crowded, least=self._least,
            slow_s=now_s + self._crowded.grace_s, end_s=now_s + self._least.grace_s,
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
            callers = {turn.caller for turn in self._turns} | {waiter.caller for waiter in self._waiters}
            share_bytes = self._capacity_bytes / len(callers)
            for waiter in self._waiters:
                has_waited = now_s - waiter.since_s >= self._crowded.grace_s
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
