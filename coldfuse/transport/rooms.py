"""What all calls of a gateway share: memory, threads, and a count of who calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import TypeVar

from coldfuse.errors import GatewayBusyError
from coldfuse.transport.callers import Caller
from coldfuse.transport.channel import MAX_REQUEST_BYTES
from coldfuse.transport.limits import Limits
from coldfuse.transport.retry import FLOOR_BYTES_PER_S
from coldfuse.transport.shares import Pace
from coldfuse.transport.traffic import Traffic
from coldfuse.transport.turns import Turns

A = TypeVar("A")

LEAST_BYTES_PER_S = 1 << 10
"""Slower than this over minutes, a transfer is cut in any case: a quarter of what four streams on a slow link have."""

_MESSAGE_S = 1.0
"""Seconds in which a call's only message comes while others wait: it left together with the headers."""

_STRANGERS_CALLS, _STRANGERS_MESSAGES, _STRANGERS_THREADS = 8, 2, 2
"""Where there are members: the part of all calls that strangers may have open, the requests of theirs that are read at
a time, and the threads that ask the store for them."""

_DOORSTEP_S = 3.0
"""Seconds in which a stranger's request comes: it is a few bytes, which left together with the headers."""

_HEAVY_CALLS = 2
"""Long requests and answers that are worked on at a time: what is parsed takes several times its length."""


class Rooms:
    """Shared by all calls of one gateway, in one event loop."""

    def __init__(
        self,
        limits: Limits,
        *,
        max_streams: int | None,
        stall_s: float,
        idle_s: float,
        num_threads: int,
        has_members: bool = False,
    ) -> None:
        """Begin with everything free; threads are started when they are needed.

        Args:
            limits: What the calls may hold.
            max_streams: How many uploads and downloads there may be at a time; None: as many as fit.
            stall_s: Seconds without a byte after which a transfer gives way to who waits.
            idle_s: Seconds after which a transfer that brings nothing is dropped.
            num_threads: How many threads wait for the store; as many more write and read chunks.
            has_members: Whether members are told from strangers, for whom a little is kept.
        """
        crowded, least = Pace(FLOOR_BYTES_PER_S, stall_s), Pace(LEAST_BYTES_PER_S, idle_s)
        self.transfers = Turns(
            limits.transfers_bytes, max_turns=max_streams, max_waiting=limits.max_calls, crowded=crowded, least=least
        )
        brief = Pace(FLOOR_BYTES_PER_S, min(stall_s, _MESSAGE_S))
        kept_bytes = _STRANGERS_MESSAGES * MAX_REQUEST_BYTES if has_members else 0
        messages_bytes = max(limits.messages_bytes - kept_bytes, MAX_REQUEST_BYTES)
        self.messages = Turns(messages_bytes, max_waiting=limits.max_calls, crowded=brief, least=least)
        patient = Pace(1, float("inf"))  # a thread cannot be called back from a store that is slow
        self.work = Turns(num_threads, max_waiting=limits.max_calls, crowded=patient, least=patient)
        self.heavy = asyncio.Semaphore(_HEAVY_CALLS)
        """Taken by whoever works on a long request or answer."""
        self.traffic = Traffic()
        """What each connection brought that somebody read."""
        self._calls = Crowd(limits.max_calls)
        self._strangers = Crowd(max(limits.max_calls // _STRANGERS_CALLS, 2))
        self.doorstep = Turns(
            _STRANGERS_MESSAGES * MAX_REQUEST_BYTES, max_waiting=limits.max_calls, crowded=brief,
            least=Pace(FLOOR_BYTES_PER_S, _DOORSTEP_S),
        )  # fmt: skip
        """Memory for the requests of strangers, where there are members."""
        self._strangers_work = asyncio.Semaphore(_STRANGERS_THREADS)
        self._threads = ThreadPoolExecutor(num_threads, "gateway-calls")
        self._movers = ThreadPoolExecutor(num_threads, "gateway-chunks")  # a slow question must not hold up a chunk

    @contextmanager
    def count(self, caller: Caller) -> Iterator[None]:
        """Count a call while the block runs; strangers, where there are members, have a small share of the calls.

        Raises:
            GatewayBusyError: There are too many, in all or of this caller.
        """
        with ExitStack() as counted:
            if caller.is_stranger:
                counted.enter_context(self._strangers.count(caller.address))
            counted.enter_context(self._calls.count(caller.key))
            yield

    async def ask(self, caller: Caller, function: Callable[[], A]) -> A:
        """Run what asks the store, in a thread; callers with less in hand go first."""
        async with AsyncExitStack() as held:
            if caller.is_stranger:
                await held.enter_async_context(self._strangers_work)
            await held.enter_async_context(self.work.take(caller.key, 1))
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def move(self, function: Callable[[], A]) -> Awaitable[A]:
        """Begin to read or write a chunk, for who holds a turn already."""
        return asyncio.get_running_loop().run_in_executor(self._movers, function)

    def drop(self, function: Callable[[], object]) -> None:
        """Run what nobody waits for, after the chunks that are on their way."""
        self._movers.submit(function)

    def close(self) -> None:
        """Wait for the threads, so that no write that was cancelled halfway is left behind."""
        self._threads.shutdown()
        self._movers.shutdown()


class Crowd:
    """Counts calls that are open, and refuses what is too many."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._open: Counter[str] = Counter()

    @contextmanager
    def count(self, caller: str) -> Iterator[None]:
        """Count a call while the block runs.

        Raises:
            GatewayBusyError: There are too many, in all or of this caller.
        """
        num_open, num_own = self._open.total(), self._open[caller]
        share = self._max_calls / (2 * max(len(self._open), 1))  # half is divided; the other half is for who comes next
        if num_open >= self._max_calls or (num_open >= self._max_calls / 2 and num_own >= share):
            raise GatewayBusyError(
                f"the gateway has as many calls as it can hold ({num_open}, {num_own} of them from where this one "
                "comes from); try again later"
            )
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
