"""Whose a key is, as it was found once and is still so."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from coldfuse.errors import GatewayBusyError, NotAllowedError
from coldfuse.transport.roll import Roll
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.members import keys_folder
from coldfuse.trust.rights import Asker

MAX_HOLDERS = 20_000
"""Keys that are known at a time: some 30 MB, if there are so many members."""

_THREADS, _STRANGERS_THREADS = 8, 1
"""Threads that look up keys of who was known, and of who was not: the former do not wait for the latter."""

_WAIT_S = 5.0
"""Seconds that a call waits for a key to be looked up."""


@dataclass(frozen=True)
class Holder:
    """Who holds a key, and what that was concluded from."""

    asker: Asker
    key: PublicKey
    num_keys: int
    """How many keys its member had."""
    version: int
    """Version of the list of members."""


class Holders:
    """The keys that a gateway has looked up. One event loop uses it; what reads the store runs in threads."""

    def __init__(self, roll: Roll) -> None:
        self._roll = roll
        self._holders: OrderedDict[tuple[str, str, bool], Holder] = OrderedDict()
        self._threads = ThreadPoolExecutor(_THREADS, "gateway-keys")
        self._strangers_threads = ThreadPoolExecutor(_STRANGERS_THREADS, "gateway-new-keys")

    def __len__(self) -> int:
        """Return how many keys are known."""
        return len(self._holders)

    def find(self, name: str, keyid: str, *, former: bool) -> tuple[Holder | None, bool]:
        """Return who holds a key, if that is known and still so; and whether it was known before."""
        place = name, keyid, former
        held = self._holders.get(place)
        if held is None:
            return None, False
        current = self._as_now(held)
        if current is not None:
            self._holders[place] = current
            self._holders.move_to_end(place)
        return current, True

    async def look_up(self, name: str, keyid: str, *, former: bool, is_stranger: bool = False) -> Holder:
        """Find in the store who holds a key.

        Raises:
            NotAllowedError: Nobody of this name does.
            GatewayBusyError: The store takes too long.
        """
        threads = self._strangers_threads if is_stranger else self._threads
        place, loop = (name, keyid, former), asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_WAIT_S):
                found = await loop.run_in_executor(threads, self._look_up, *place)
        except TimeoutError:
            raise GatewayBusyError("the gateway waits for its store to say whose key this is; try again") from None
        except NotAllowedError:
            self._holders.pop(place, None)
            raise NotAllowedError(  # who asks is unknown, and is not told which names are members'
                f"{name}: there is no member of this name with the key {keyid[:12]} (any more); use its newest key, or "
                "ask an operator for an invitation (coldfuse enroll)"
            ) from None
        if place not in self._holders:  # a new key: the one before it counts no more
            self.forget(name)
        self._holders[place] = found
        while len(self._holders) > MAX_HOLDERS:
            self._holders.popitem(last=False)
        return found

    def forget(self, name: str) -> None:
        """Look again for a member's keys: one has changed."""
        for place in [place for place in self._holders if place[0] == name]:
            del self._holders[place]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._strangers_threads.shutdown(cancel_futures=True)

    def _as_now(self, held: Holder) -> Holder | None:
        """Return a holder as the list of members has them now; None where the store has to be asked again."""
        known, asker = self._roll.known, held.asker
        if known is None:
            return None
        if held.version != known.members.version:
            member = known.members.members.get(asker.name)
            is_same = member.invite == asker.member.invite if member and asker.member else member is asker.member
            if not is_same or (member is None and not known.root.is_open):
                return None
            held = replace(held, asker=replace(asker, member=member), version=known.members.version)
        folder = keys_folder(asker.name, asker.member.invite if asker.member else None)
        return None if self._roll.num_keys(folder) > held.num_keys else held

    def _look_up(self, name: str, keyid: str, former: bool) -> Holder:
        view, now_s = self._roll.view, self._roll.now_s()
        if view is None:
            raise NotAllowedError("the federation has no root")
        version = view.known().members.version
        asker = view.find(name, keyid, at_s=now_s if former else None)
        statement = view.key_of(asker)
        num_keys = len(view.statements(name, asker.member)) if former else statement.number + 1
        return Holder(asker, statement.key, num_keys, version)
