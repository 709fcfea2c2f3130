"""Who asks: a member, by a signed request; or a stranger, by an address.

What a stranger can make a gateway do is bounded before anything is verified: a claim has a form and a length, is for
this gateway and of about now, and names a key that is known here; an unknown key is looked up in the store a few times
a second. Then one signature is verified, and the request is remembered, so that it counts once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from coldfuse.errors import FederationError, GatewayBusyError
from coldfuse.transport.budgets import Budgets
from coldfuse.transport.holders import Holder, Holders
from coldfuse.transport.roll import Roll
from coldfuse.transport.status import OtherGatewayError
from coldfuse.trust.requests import Claim, Nonces, parse_claim
from coldfuse.trust.rights import Asker
from coldfuse.trust.view import Known

LOOK_UPS = {"each_per_s": 1.0, "each_burst": 10.0, "all_per_s": 20.0, "all_burst": 100.0}
"""How often it is looked in vain whether somebody has a key that is not known here, by address and in all."""

_STEP_S = 1.0
"""Seconds by which the clock may go back before everything has to be signed anew."""

JOINS = {"each_per_s": 1.0, "each_burst": 10.0, "all_per_s": 10.0, "all_burst": 100.0}
"""How often keys are bound to names, by address and in all."""

ROTATIONS = {"each_per_s": 1.0, "each_burst": 10.0, "all_per_s": 100.0, "all_burst": 1_000.0}
"""How often members put a new key after their own, by member and in all: no stranger keeps them from it."""


class Askers:
    """Finds out who asks. One event loop uses it."""

    def __init__(self, roll: Roll, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin having seen no request.

        Args:
            roll: Who is a member.
            clock: Tells seconds.
        """
        self.roll = roll
        self._clock = clock
        self._latest_s = roll.now_s()
        self._begin_anew()
        self._holders = Holders(roll)
        self._look_ups = Budgets(**LOOK_UPS)
        self._joins, self._rotations = Budgets(**JOINS), Budgets(**ROTATIONS)

    async def find(
        self, path: str, header: str | None, *, address: str, former: bool = False
    ) -> tuple[Asker, Claim] | None:
        """Return who asks, and what they claim; None for a stranger.

        Args:
            path: Path of the method.
            header: The claim, as it came.
            address: Where the call comes from.
            former: Whether a key counts, too, that was replaced a moment ago.

        Raises:
            SignatureError: The claim is none, is too old, was seen before, or its signature does not fit.
            NotAllowedError: There is no such member with such a key.
            OtherGatewayError: It is for another gateway.
            ExpiredError: The root has expired.
            GatewayBusyError: Too much is asked at a time.
            FederationError: The federation had no root when this gateway was started, and has one by now.
        """
        known = await self.roll.current()
        if self.roll.is_adopted:
            raise FederationError(
                "this federation has got a root since this gateway was started; its operator has to start it anew"
            )
        if known is None or header is None:
            return None
        claim, now_s = parse_claim(header), self.roll.now_s()
        if now_s < self._latest_s - _STEP_S:  # what was forgotten as too old would be believed once more
            self._begin_anew()
        self._latest_s = max(self._latest_s, now_s)
        if claim.gateway != self._gateway:
            raise OtherGatewayError(self._gateway)
        claim.require_time(now_s=now_s)
        known.root.require_valid(now_s=now_s)
        holder = _operator(claim, known) or await self._holder(claim, address, former=former)
        claim.verify(path, known.fingerprint, holder.key)
        self._nonces.use(claim)
        return holder.asker, claim

    def take_join(self, address: str) -> None:
        """Take note of a key that is to be bound. Raises `GatewayBusyError` if that were too many from there."""
        if self.roll.has_members and not self._joins.take(address, now_s=self._clock()):
            raise GatewayBusyError("too many keys are bound to names at a time; try again later")

    def take_rotation(self, name: str) -> None:
        """Take note of a member's next key. Raises `GatewayBusyError` if that were too many of that member."""
        if not self._rotations.take(name, now_s=self._clock()):
            raise GatewayBusyError(f"{name}: has changed its key too often in a moment; try again later")

    def forget(self, name: str) -> None:
        """Look again for a member's keys: one has changed."""
        self._holders.forget(name)

    def close(self) -> None:
        """End the threads."""
        self._holders.close()
        self.roll.close()

    def _begin_anew(self) -> None:
        """Be another gateway than before, to which no request was signed yet."""
        self._gateway, self._nonces, self._latest_s = secrets.token_hex(16), Nonces(self.roll.now_s), self.roll.now_s()

    async def _holder(self, claim: Claim, address: str, *, former: bool) -> Holder:
        """Return whose key a claim names; what is looked up for somebody who has none is counted."""
        held, is_known = self._holders.find(claim.name, claim.signature.keyid, former=former)
        if held is not None:
            return held
        if is_known:
            return await self._holders.look_up(claim.name, claim.signature.keyid, former=former)
        if not self._look_ups.take(address, now_s=self._clock()):
            raise GatewayBusyError("too many keys were asked for that are not known here; try again later")
        await self.roll.read_again()  # they may have become a member a moment ago
        found = await self._holders.look_up(claim.name, claim.signature.keyid, former=former, is_stranger=True)
        self._look_ups.give_back(address)
        return found


def _operator(claim: Claim, known: Known) -> Holder | None:
    """Return whose key a claim names, if it is one that the newest root names for operators."""
    keyid = claim.signature.keyid
    if claim.name != "operator" or keyid not in known.root.roles["operator"].keys:
        return None
    asker = Asker(name=claim.name, member=None, keyid=keyid, is_of_root=True)
    return Holder(asker, known.root.keys[keyid], num_keys=1, version=known.members.version)
