"""Who asks, and what finding that out costs the store, by a clock that tests turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from federation_keys import NOW_S, YEAR_S, TinyTrust

from coldfuse.errors import (
    ExpiredError,
    FederationError,
    GatewayBusyError,
    NotAllowedError,
    StorageError,
    TransportError,
)
from coldfuse.transport.askers import Askers
from coldfuse.transport.roll import ADOPTED_S, KEYS_S, REFRESH_S, STALE_S, Roll
from coldfuse.transport.status import OtherGatewayError
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.requests import NOBODY, sign_request
from coldfuse.trust.rights import Asker, require_right
from coldfuse.trust.view import TrustView

PATH = "/coldfuse.v1.Gateway/GetStatus"


class Desk:
    """Finds out who asks, of a store that counts, and of clocks that stand still until they are turned."""

    def __init__(self, trust: TinyTrust) -> None:
        self.trust = trust
        self.now_s = 0.0
        self.turned_s = 0.0
        self.reads: Counter[str] = Counter()
        self.is_down = False
        self.gateway = NOBODY
        self.number = 0
        view = TrustView(self._read, fingerprint=trust.fingerprint)
        roll = Roll(
            view, count_keys=self._count, now_s=lambda: NOW_S + self.now_s + self.turned_s, clock=lambda: self.now_s
        )
        self.askers = Askers(roll, clock=lambda: self.now_s)

    def _read(self, key: str) -> bytes | None:
        if self.is_down:
            raise StorageError("out of reach")
        self.reads[key.rpartition("/")[0].split("/")[0] + ("/keys" if "keys" in key else "")] += 1
        return self.trust.stored.get(key)

    def _count(self) -> Counter[str]:
        self.reads["list"] += 1
        folders = [f"{key.rpartition('/')[0]}/" for key in self.trust.stored]
        return Counter(folder for folder in folders if folder.startswith("members/keys/"))

    def claim(self, who: Identity) -> str:
        self.number += 1
        now_s = NOW_S + self.now_s + self.turned_s
        return sign_request(
            who, PATH, body=b"", gateway=self.gateway, now_s=now_s, nonce=self.number.to_bytes(16)
        )  # fmt: skip

    async def ask(self, who: Identity, *, address: str = "here") -> Asker:
        """Ask as a client does, which signs again for the gateway that it hears of."""
        try:
            found = await self.askers.find(PATH, self.claim(who), address=address)
        except OtherGatewayError as error:
            self.gateway = error.gateway
            found = await self.askers.find(PATH, self.claim(who), address=address)
        assert found is not None
        return found[0]


def operator_of(trust: TinyTrust, key: PrivateKey) -> Identity:
    return Identity("operator", trust.fingerprint, key)


def at_a_desk(test: Callable[[Desk], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def go() -> None:
            desk = Desk(TinyTrust())
            try:
                await test(desk)
            finally:
                desk.askers.close()

        asyncio.run(go())

    run.__name__ = test.__name__
    return run


@at_a_desk
async def test_ten_thousand_calls_cost_the_store_what_one_costs(desk: Desk) -> None:
    members = [desk.trust.enroll(f"m{number}") for number in range(5)]
    for who in members:
        await desk.ask(who)
    before = desk.reads.copy()
    for _ in range(40):
        for who in members:
            assert (await desk.ask(who)).name == who.name
    assert desk.reads == before
    desk.now_s = REFRESH_S + 0.1
    for _ in range(10):
        await desk.ask(members[0])
    assert desk.reads - before == {"root": 1, "members": 1}


@at_a_desk
async def test_a_new_member_makes_nobody_look_for_the_keys_of_the_others(desk: Desk) -> None:
    ada = desk.trust.enroll("ada")
    await desk.ask(ada)
    bob = desk.trust.enroll("bob")
    assert (await desk.ask(bob)).name == "bob"  # at once, and not when the list has its age
    looked = desk.reads["members/keys"]
    desk.now_s = REFRESH_S + 0.1
    await desk.ask(ada)
    await desk.ask(bob)
    assert desk.reads["members/keys"] == looked


@at_a_desk
async def test_a_newer_key_is_seen_by_one_listing(desk: Desk) -> None:
    ada, bob = desk.trust.enroll("ada"), desk.trust.enroll("bob")
    await desk.ask(ada)
    await desk.ask(bob)
    newer = desk.trust.bind("ada", PrivateKey.generate(), number=1, before=ada.signer)
    desk.now_s = KEYS_S + 0.1
    looked = desk.reads["members/keys"]
    with pytest.raises(NotAllowedError):
        await desk.ask(ada)
    await desk.ask(bob)
    assert (await desk.ask(newer)).keyid == newer.signer.public.id
    assert desk.reads["list"] == 2
    assert desk.reads["members/keys"] <= looked + 3


@at_a_desk
async def test_who_shows_a_newer_key_takes_the_place_of_the_older_at_once(desk: Desk) -> None:
    ada = desk.trust.enroll("ada")
    await desk.ask(ada)
    newer = desk.trust.bind("ada", PrivateKey.generate(), number=1, before=ada.signer)
    await desk.ask(newer)
    with pytest.raises(NotAllowedError):
        await desk.ask(ada)


@at_a_desk
async def test_keys_of_nobody_are_looked_up_a_few_times_and_cost_nobody_else(desk: Desk) -> None:
    ada = desk.trust.enroll("ada")
    await desk.ask(ada)
    before, refused = desk.reads.total(), Counter[str]()
    for number in range(400):
        somebody = Identity("ada", desk.trust.fingerprint, PrivateKey.generate())
        with pytest.raises((NotAllowedError, GatewayBusyError)) as caught:
            await desk.ask(somebody, address=f"a{number % 80}")
        refused[type(caught.value).__name__] += 1
    assert refused["NotAllowedError"] == 100
    assert desk.reads.total() - before <= 4 * 100
    await desk.ask(ada)
    desk.now_s = 60.0
    late = desk.trust.enroll("late")
    assert (await desk.ask(late)).name == "late"


@at_a_desk
async def test_whoever_returns_after_a_restart_is_let_in_however_many_they_are(desk: Desk) -> None:
    members = [desk.trust.enroll(f"m{number}") for number in range(40)]
    for who in members:  # from behind one address
        assert (await desk.ask(who)).name == who.name


@at_a_desk
async def test_a_store_that_is_away_is_done_without_for_a_minute(desk: Desk) -> None:
    ada = desk.trust.enroll("ada")
    await desk.ask(ada)
    desk.is_down, desk.now_s = True, STALE_S - 1
    assert (await desk.ask(ada)).name == "ada"
    desk.now_s = STALE_S + REFRESH_S
    with pytest.raises(TransportError, match="out of reach"):
        await desk.ask(ada)
    desk.is_down, desk.now_s = False, desk.now_s + REFRESH_S + 1
    assert (await desk.ask(ada)).name == "ada"


@at_a_desk
async def test_a_clock_that_goes_back_lets_no_old_request_in(desk: Desk) -> None:
    ada = desk.trust.enroll("ada")
    await desk.ask(ada)
    old = desk.claim(ada)
    assert await desk.askers.find(PATH, old, address="here")
    desk.turned_s = 86400.0
    await desk.ask(ada)  # what is a day old is forgotten
    desk.turned_s = 0.0
    with pytest.raises(OtherGatewayError):
        await desk.askers.find(PATH, old, address="here")
    assert (await desk.ask(ada)).name == "ada"
    with pytest.raises(OtherGatewayError):
        await desk.askers.find(PATH, old, address="here")


@at_a_desk
async def test_a_root_that_has_expired_lets_nobody_in(desk: Desk) -> None:
    ada = desk.trust.enroll("ada", valid_until_s=NOW_S + 9 * YEAR_S)
    await desk.ask(ada)
    desk.turned_s = YEAR_S + 1
    with pytest.raises(ExpiredError, match="renew"):
        await desk.ask(ada)


@at_a_desk
async def test_two_that_come_with_one_request_are_one(desk: Desk) -> None:
    ada = desk.trust.enroll("ada")
    await desk.ask(ada)
    desk.askers.forget("ada")  # both have to wait for the store
    text = desk.claim(ada)
    both = [desk.askers.find(PATH, text, address="here") for _ in range(2)]
    found = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(each).__name__ for each in found) == ["SignatureError", "tuple"]


def test_a_federation_without_a_root_asks_nobody_and_says_when_it_has_one() -> None:
    async def go() -> None:
        trust, now_s, looked = TinyTrust(), [0.0], []
        found: list[TrustView | None] = [None]

        def find_view() -> TrustView | None:
            looked.append(now_s[0])
            return found[0]

        askers = Askers(Roll(None, find_view=find_view, clock=lambda: now_s[0]), clock=lambda: now_s[0])
        for _ in range(100):
            assert await askers.find(PATH, None, address="here") is None
        assert looked == []
        found[0], now_s[0] = trust.view(), ADOPTED_S + 1
        while not looked:  # nobody waits for it
            await askers.find(PATH, None, address="here")
            await asyncio.sleep(0.001)
        with pytest.raises(FederationError, match="anew"):
            await askers.find(PATH, None, address="here")
        assert len(looked) == 1
        askers.close()

    asyncio.run(go())


@at_a_desk
async def test_nobody_hears_which_names_are_members(desk: Desk) -> None:
    desk.trust.enroll("ada")
    said = []
    for name in ("ada", "nobody"):
        stranger = Identity(name, desk.trust.fingerprint, PrivateKey.generate())
        with pytest.raises(NotAllowedError) as caught:
            await desk.ask(stranger)
        said.append(str(caught.value).replace(stranger.signer.public.id[:12], "KEY").replace(name, "NAME"))
    assert said[0] == said[1]


@at_a_desk
async def test_an_operator_of_the_root_needs_no_invitation(desk: Desk) -> None:
    asker = await desk.ask(operator_of(desk.trust, desk.trust.operator))
    assert (asker.role, asker.member) == ("operator", None)
    require_right("GetVerdict", asker, is_open=False, now_s=NOW_S)


@at_a_desk
async def test_another_key_of_the_root_is_no_operator(desk: Desk) -> None:
    for key in (desk.trust.aggregator, desk.trust.model, PrivateKey.generate()):
        with pytest.raises(NotAllowedError):
            await desk.ask(operator_of(desk.trust, key))


@at_a_desk
async def test_an_operator_of_the_root_signs_nothing_as_a_member(desk: Desk) -> None:
    signature = operator_of(desk.trust, desk.trust.operator).sign(b"x", "contribution")
    with pytest.raises(NotAllowedError, match="is no member"):
        desk.trust.view().verify(b"x", "contribution", signature, name="operator", what="a contribution")
