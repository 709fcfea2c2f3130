"""Who gets a turn, who waits, and who is cut; with a loop of its own, and paces that end at once."""

from __future__ import annotations

import asyncio

import pytest

from coldfuse.errors import GatewayBusyError, TransportError
from coldfuse.transport.shares import Pace, Turn, earn, find_victim
from coldfuse.transport.turns import Turns

NEVER, AT_ONCE = Pace(1.0, 1e9), Pace(1.0, 0.0)


def make_turns(*, crowded=NEVER, least=NEVER, capacity=4, max_waiting=10, patience_s=30.0, **settings) -> Turns:
    return Turns(capacity, crowded=crowded, least=least, max_waiting=max_waiting, patience_s=patience_s, **settings)


class Holder:
    """Somebody who takes a turn and keeps it until told otherwise."""

    def __init__(self, turns: Turns, caller: str, cost: int = 1) -> None:
        self.has_begun, self.let_go = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._hold(turns, caller, cost))

    async def _hold(self, turns: Turns, caller: str, cost: int) -> None:
        async with turns.take(caller, cost):
            self.has_begun.set()
            await self.let_go.wait()

    async def end(self) -> None:
        self.let_go.set()
        await self.task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_whoever_fits_goes_and_the_next_waits_until_one_is_given_back():
    async def run():
        turns = make_turns(capacity=4)
        first, second, third = Holder(turns, "a", 3), Holder(turns, "a", 1), Holder(turns, "b", 3)
        await settle()
        assert [each.has_begun.is_set() for each in (first, second, third)] == [True, True, False]
        await first.end()
        await settle()
        assert third.has_begun.is_set()
        await asyncio.gather(second.end(), third.end())

    asyncio.run(run())


def test_what_is_larger_than_all_has_all_of_it_to_itself():
    async def run():
        turns = make_turns(capacity=4)
        large = Holder(turns, "a", 100)
        await settle()
        small = Holder(turns, "b", 1)
        await settle()
        assert (large.has_begun.is_set(), small.has_begun.is_set()) == (True, False)
        await large.end()
        await small.end()

    asyncio.run(run())


def test_who_holds_less_goes_first():
    async def run():
        turns = make_turns(capacity=2)
        holders = [Holder(turns, "greedy"), Holder(turns, "greedy")]
        await settle()
        waiting = [Holder(turns, "greedy"), Holder(turns, "greedy"), Holder(turns, "modest")]
        await settle()
        await holders[0].end()
        await settle()
        assert [each.has_begun.is_set() for each in waiting] == [False, False, True]
        await asyncio.gather(*(each.end() for each in (holders[1], *waiting)))

    asyncio.run(run())


def test_waiting_ends_with_a_word():
    async def run():
        turns = make_turns(capacity=1, patience_s=0.01)
        holder = Holder(turns, "a")
        await settle()
        with pytest.raises(GatewayBusyError, match=r"\(1 run, 0 wait\); try again later"):
            async with turns.take("b", 1):
                pass
        await holder.end()
        async with turns.take("b", 1):
            pass

    asyncio.run(run())


def test_when_too_many_wait_the_last_of_the_greediest_is_sent_away():
    async def run():
        turns = make_turns(capacity=1, max_waiting=3)
        holder = Holder(turns, "x")
        await settle()
        waiting = [Holder(turns, caller) for caller in ("a", "greedy", "greedy", "b")]
        await settle()
        assert [each.task.done() for each in waiting] == [False, False, True, False]
        with pytest.raises(GatewayBusyError):
            await waiting[2].task
        await asyncio.gather(*(each.end() for each in (holder, waiting[0], waiting[1], waiting[3])))

    asyncio.run(run())


def test_who_leaves_while_waiting_or_at_the_very_moment_takes_nothing_along():
    async def run():
        turns = make_turns(capacity=1)
        holder = Holder(turns, "a")
        await settle()
        gone, lucky = Holder(turns, "b"), Holder(turns, "c")
        await settle()
        gone.task.cancel()
        await settle()
        holder.let_go.set()
        lucky.task.cancel()  # served and cancelled in one turn of the loop
        await asyncio.gather(holder.task, gone.task, lucky.task, return_exceptions=True)
        async with turns.take("d", 1):
            pass

    asyncio.run(run())


def test_what_stands_is_cut_for_who_waits_and_told_why():
    async def run():
        turns = make_turns(capacity=1, crowded=AT_ONCE)
        holder = Holder(turns, "a")
        await settle()
        async with turns.take("b", 1):
            with pytest.raises(GatewayBusyError, match="moved too little while others waited"):
                await holder.task

    asyncio.run(run())


def test_what_moves_next_to_nothing_is_cut_although_nobody_waits():
    async def run():
        turns = make_turns(least=Pace(bytes_per_s=1000.0, grace_s=0.05))

        async def trickle():
            async with turns.take("a", 1) as turn:
                while True:
                    turn.moved(1)  # earns a millisecond for each byte
                    await asyncio.sleep(0.01)

        with pytest.raises(TransportError, match="or next to nothing; send the part again"):
            await trickle()

    asyncio.run(run())


def test_what_is_cancelled_from_outside_stays_cancelled():
    async def run():
        turns = make_turns()
        holder = Holder(turns, "a")
        await settle()
        holder.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder.task

    asyncio.run(run())


def make_turn(caller: str, *, slow_s: float = 1e9, cost: int = 1, moved: int = 1, total: int = 1) -> Turn:
    return Turn(
        caller=caller, cost_bytes=cost, crowded=NEVER, least=NEVER, slow_s=slow_s, end_s=1e9, began_s=0.0,
        total_bytes=total, moved_bytes=moved,
    )  # fmt: skip


def victim_of(turns, waiting, *, share=2.0, has_waited=False):
    return find_victim(turns, waiting, share_bytes=share, now_s=100.0, has_waited=has_waited)


def test_of_the_greediest_the_one_is_cut_that_has_stood_the_longest():
    modest = make_turn("modest", slow_s=1.0)
    greedy = [make_turn("greedy", slow_s=each) for each in (90.0, 80.0, 1e9)]
    assert victim_of([modest, *greedy], "new") is greedy[1]


def test_who_holds_no_more_than_a_share_is_not_cut_for_others_but_for_their_own():
    turns = [make_turn("a", slow_s=1.0), make_turn("a", slow_s=2.0)]
    assert victim_of(turns, "b") is None
    assert victim_of(turns, "a") is turns[0]


def test_what_moves_is_cut_only_for_a_share_and_not_if_it_ends_soon():
    lasting = [make_turn("greedy", moved=1, total=1000) for _ in range(3)]
    soon = [make_turn("greedy", moved=999, total=1000) for _ in range(3)]
    assert victim_of(lasting, "new", share=1.0) is None  # it has only come
    assert victim_of(lasting, "new", share=1.0, has_waited=True) in lasting
    assert victim_of(soon, "new", share=1.0, has_waited=True) is None
    assert victim_of(lasting, "new", share=3.0, has_waited=True) is None  # nobody holds more than a share
    assert victim_of(lasting, "greedy", share=1.0, has_waited=True) is None


def test_a_turn_that_is_cut_is_not_cut_again():
    turn = make_turn("a", slow_s=1.0)
    turn.is_cut = True
    assert victim_of([turn], "a") is None


@pytest.mark.parametrize(
    ("until_s", "num_bytes", "expected_s"),
    [(10.0, 0, 10.0), (10.0, 100, 11.0), (10.0, 10_000, 15.0), (2.0, 100, 3.0)],
)
def test_bytes_earn_time_up_to_the_grace(until_s, num_bytes, expected_s):
    assert earn(until_s, Pace(bytes_per_s=100.0, grace_s=5.0), num_bytes=num_bytes, now_s=10.0) == expected_s
