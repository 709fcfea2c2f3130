"""Who asks: a member, by a signed request; or a stranger, by an address.

What a stranger can make a gateway do is bounded before anything is verified: a claim has a form and a length, is for
this gateway and of about now, and names a key that is known here; an unknown key is looked up in the store a few times
a second. Then one signature is verified, and the request is remembered, so that it counts once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from coldfuse.errors import ColdfuseError, FederationError, GatewayBusyError, NotAllowedError, TransportError
from coldfuse.transport.budgets import Budgets
from coldfuse.transport.status import OtherGatewayError
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.requests import Claim, Nonces, parse_claim
from coldfuse.trust.rights import Asker
from coldfuse.trust.view import Known, TrustView

logger = logging.getLogger(__name__)

REFRESH_S = 2.0
"""Age at which the root and the list of members are read again, when somebody asks."""

KEY_S = 10.0
"""Age at which it is looked again whether a member has a newer key."""

STALE_S = 60.0
"""How long a gateway goes on with what it knows while the store cannot be read."""

ADOPTED_S = 30.0
"""Age at which it is looked again whether a federation without a root has one."""

LOOK_UPS = {"each_per_s": 1.0, "each_burst": 10.0, "all_per_s": 20.0, "all_burst": 100.0}
"""How often it is looked whether somebody has a key that is not known here, by address and in all."""

JOINS = {"each_per_s": 1.0, "each_burst": 10.0, "all_per_s": 10.0, "all_burst": 100.0}
"""How often keys are bound to names, by address and in all."""

_MAX_KEYS = 20_000
"""Keys that are known at a time: some 30 MB, if there are so many members."""

_WAIT_S = 5.0
"""Seconds that a call waits for the store to be read."""


@dataclass(frozen=True)
class _Holder:
    """Who holds a key, and when that was seen."""

    asker: Asker
    key: PublicKey
    seen_s: float
    version: int
    """Version of the list of members."""


class Askers:
    """Finds out who asks. One event loop uses it; what reads the store runs in threads of its own."""

    def __init__(
        self,
        view: TrustView | None,
        find_view: Callable[[], TrustView | None] = lambda: None,
        *,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read what the store says.

        Args:
            view: What signed things are verified by; None where the federation has no root.
            find_view: Looks whether it has one by now; it reads the store.
            wall_clock: Tells the time in seconds since 1970.
            clock: Tells seconds.
        """
        self.id = secrets.token_hex(16)
        """What requests to this gateway are signed for: another one each time that it starts."""
        self._find_view = find_view
        self._wall_clock = wall_clock
        self._clock = clock
        self._nonces = Nonces(wall_clock)
        self._holders: OrderedDict[tuple[str, str, bool], _Holder] = OrderedDict()
        self._look_ups = Budgets(**LOOK_UPS)
        self._joins = Budgets(**JOINS)
        self._threads = ThreadPoolExecutor(2, "gateway-trust")
        self._reading: asyncio.Task[None] | None = None
        self._view = view
        self._known = view.refresh() if view is not None else None
        self._began_s = self._read_s = self._good_s = clock()
        self._is_adopted = False
        self._trouble = "its store does not answer"

    @property
    def has_members(self) -> bool:
        """True where the federation has a root, and so strangers are told from members."""
        return self._known is not None

    @property
    def is_open(self) -> bool:
        """True where the federation's root lets anybody read, and any key contribute."""
        return self._known is not None and self._known.root.is_open

    @property
    def num_remembered(self) -> int:
        """Number of requests that are remembered."""
        return len(self._nonces)

    async def find(
        self, path: str, header: str | None, *, address: str, former: bool = False
    ) -> tuple[Asker, Claim] | None:
        """Return who asks, and what they claim; None for a stranger.

        Args:
            path: Path of the method.
            header: The claim, as it came.
            address: Where the call comes from.
            former: Whether a former key of the member counts, too.

        Raises:
            SignatureError: The claim is none, is too old, was seen before, or its signature does not fit.
            NotAllowedError: There is no such member with such a key.
            OtherGatewayError: It is for another gateway.
            ExpiredError: The root has expired.
            GatewayBusyError: Too much is asked at a time.
        """
        known = await self._current()
        if self._is_adopted:
            raise FederationError(
                "this federation has got a root since this gateway was started; its operator has to start it anew"
            )
        if known is None or header is None:
            return None
        claim = parse_claim(header)
        if claim.gateway != self.id:
            raise OtherGatewayError(self.id)
        now_s = self._wall_clock()
        claim.require_time(now_s=now_s)
        known.root.require_valid(now_s=now_s)
        holder = await self._holder(claim, address, former=former)
        claim.verify(path, known.fingerprint, holder.key)
        self._nonces.use(claim)
        return holder.asker, claim

    def take_join(self, address: str) -> None:
        """Take note of a key that is to be bound. Raises `GatewayBusyError` if that were too many from there."""
        if self.has_members and not self._joins.take(address, now_s=self._clock()):
            raise GatewayBusyError("too many keys are bound to names at a time; try again later")

    def forget(self, name: str) -> None:
        """Look again for a member's keys: one has changed."""
        for place in [place for place in self._holders if place[0] == name]:
            del self._holders[place]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    async def _current(self) -> Known | None:
        """Return the root and the members, as they were at most a moment ago."""
        age_s = self._clock() - self._read_s
        if self._known is None:  # what works without a root waits for nothing
            if age_s > ADOPTED_S:
                self._begin_reading()
        elif age_s > REFRESH_S:
            await self._read_since(self._clock() - REFRESH_S)
        return self._known

    async def _read_since(self, moment_s: float) -> None:
        """Wait for what was read since then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                while self._began_s < moment_s or self._read_s < self._began_s:
                    await asyncio.shield(self._begin_reading())
        if self._clock() - self._good_s > STALE_S:
            raise TransportError(f"the gateway cannot find out who is a member: {self._trouble}; try again")

    def _begin_reading(self) -> asyncio.Task[None]:
        """Read once for all who ask at the same time."""
        if self._reading is None or self._reading.done():
            self._began_s = self._clock()
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        try:
            self._known = await asyncio.get_running_loop().run_in_executor(self._threads, self._look)
            self._good_s = self._clock()
        except ColdfuseError as error:
            self._trouble = str(error)
            logger.warning("the members are as they were %.0f s ago: %s", self._clock() - self._good_s, error)
        finally:
            self._read_s = self._clock()

    def _look(self) -> Known | None:
        if self._view is not None:
            return self._view.refresh()
        if self._find_view() is not None:
            self._is_adopted = True
            logger.error("the federation has a root by now, which this gateway has begun without; start it anew")
        return None

    async def _holder(self, claim: Claim, address: str, *, former: bool) -> _Holder:
        place = claim.name, claim.signature.keyid, former
        held = self._holders.get(place)
        if held is not None and self._is_fresh(held):
            self._holders.move_to_end(place)
            return held
        if held is None and not self._look_ups.take(address, now_s=self._clock()):
            raise GatewayBusyError("too many keys were asked for that are not known here; try again later")
        if held is None:  # they may have become a member a moment ago
            await self._read_since(self._clock())
        try:
            async with asyncio.timeout(_WAIT_S):
                found = await asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, claim, former)
        except TimeoutError:
            raise GatewayBusyError("the gateway waits for its store to say whose key this is; try again") from None
        except NotAllowedError:
            self._holders.pop(place, None)
            raise NotAllowedError(  # who asks is unknown, and is not told which names are members'
                f"{claim.name}: there is no member of this name with the key {claim.signature.keyid[:12]} (any more); "
                "use its newest key, or ask an operator for an invitation (coldfuse enroll)"
            ) from None
        self._keep(place, found)
        return found

    def _look_up(self, claim: Claim, former: bool) -> _Holder:
        view = self._view
        if view is None:
            raise NotAllowedError("the federation has no root")
        asker = view.find(claim.name, claim.signature.keyid, at_s=self._wall_clock() if former else None)
        return _Holder(asker, view.key_of(asker).key, self._clock(), view.known().members.version)

    def _is_fresh(self, held: _Holder) -> bool:
        known = self._known
        return known is not None and held.version == known.members.version and self._clock() - held.seen_s < KEY_S

    def _keep(self, place: tuple[str, str, bool], found: _Holder) -> None:
        if place not in self._holders:  # a new key: the one before it counts no more
            self.forget(place[0])
        self._holders[place] = found
        while len(self._holders) > _MAX_KEYS:
            self._holders.popitem(last=False)
