"""A gateway, a store, an aggregator and a worker in somebody else's hands, one after the other: what each can do.

Whoever has the store can write anything into it, a gateway can do that and answer anything, an aggregator has its keys
besides. None of them has a member's key, or an operator's. `test_rooted_rounds` has more of what an aggregator rejects,
`unit/consumer` more of what a client refuses, and the tests of `coldfuse verify` more of what it finds.
"""

from __future__ import annotations

import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rooted import RootedFederation, make_keys
from tiny_rounds import lead, make_changes, make_contribution, make_model

from coldfuse.aggregator import judging
from coldfuse.aggregator.proving import Proof, Proven
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.federation import CHANNEL_EXPIRES_S, FederationSettings
from coldfuse.core.release import Channel
from coldfuse.core.round import Admitted, Received
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import (
    CodecError,
    ExpiredError,
    NotAllowedError,
    RollbackError,
    SignatureError,
    TrustError,
)
from coldfuse.gateway import ContributionVerdict, Decision, StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.members import bind_key
from coldfuse.registry.settings import SETTINGS_KEY, read_settings
from coldfuse.registry.trust import signed_reader
from coldfuse.storage import LocalStore
from coldfuse.storage.base import list_keys
from coldfuse.trust.channel import SignedChannel
from coldfuse.trust.envelope import sign
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import KeyStatement, Member, Members, keys_folder, state_key
from coldfuse.trust.root import Root
from coldfuse.trust.view import TrustView, members_key, root_key
from coldfuse.verification.causes import Cause
from coldfuse.verification.store import Request, verify_store

MODEL = make_model()
THIEF = PrivateKey.generate()
REFUSED = (TrustError, CodecError)
"""What a client raises for what is signed by nobody who may, or is no envelope at all."""


@pytest.fixture
def made(tmp_path: Path) -> RootedFederation:
    return RootedFederation(tmp_path, rules={"quorum": 1, "deadline_s": 60.0})


def released(made: RootedFederation, *members: Identity) -> None:
    """Make a release of what these have sent."""
    number = made.opened(leads=False).current_round()
    lead(made.opened(), number, now_s=time.time())
    for seed, who in enumerate(members):
        made.send(who.name, make_changes(MODEL, 10 * number + seed), who)
    lead(made.opened(), number)


def client(
    made: RootedFederation, *, home: Path | None = None, after_s: float = 0.0, gateway: StoreGateway | None = None
) -> TrustedGateway:
    """Return what a node or consumer asks, who knows the fingerprint and, with a home, what it has seen before."""
    folder = None if home is None else FederationFolder(home, made.keys.fingerprint)
    gateway = gateway or StoreGateway(made.opened(leads=False))
    return TrustedGateway(
        gateway, anchor=made.keys.fingerprint, folder=folder, clock=lambda: time.time() + after_s
    )  # fmt: skip


def put(made: RootedFederation, key: str, data: bytes) -> None:
    """Write anything into the store, in the place of whatever is there."""
    if made.store.head(key) is None:
        made.store.put_if_absent(key, data)
    else:
        made.store.compare_and_swap(key, data, etag=made.store.get_with_etag(key)[1])


def fused(made: RootedFederation) -> list[str]:
    """Return who is in the latest release."""
    return sorted(one.contributor for one in made.opened(leads=False).latest().contributions)


# A gateway


def altered(made: RootedFederation, ada: Identity) -> tuple[ContributionManifest, Identity]:
    honest = make_contribution(made.opened(), "ada", make_changes(MODEL, 1))
    signature = ada.sign(encode(honest), "contribution")

    class Replayed(Identity):
        def sign(self, *_: object) -> object:  # type: ignore[override]
            return signature

    return honest.model_copy(update={"num_examples": 1_000_000}), Replayed("ada", "", THIEF)


def of_another_round(made: RootedFederation, ada: Identity) -> tuple[ContributionManifest, Identity]:
    released(made, ada)
    old = made.opened().latest().contributions[0].contribution
    return made.opened().objects.get_value(ContributionManifest, old), ada


@pytest.mark.parametrize("forge", [altered, of_another_round], ids=lambda forge: forge.__name__)
def test_a_gateway_makes_no_contribution_of_a_members(made: RootedFederation, forge: Callable) -> None:
    ada, bob = made.enroll("ada"), made.enroll("bob")
    manifest, signer = forge(made, ada)
    federation = made.opened()
    number, before = federation.current_round(), federation.latest().release
    lead(federation, number, now_s=time.time())
    received = made.receive(manifest, signer)
    if manifest.round != number:  # it was received there long ago, and now a gateway puts it here
        signature = signer.sign(encode(manifest), "contribution")
        federation.journal(number).receive(Received(
            contribution=received, contributor="ada", received_at_s=time.time(), signature=signature
        ))  # fmt: skip
    made.send("bob", make_changes(MODEL, 7), bob)
    lead(made.opened(), number)
    assert fused(made) == ["bob"]
    assert made.opened().latest().release == before + 1


class Lying(StoreGateway):
    """A gateway that says of every contribution what it likes."""

    said = Decision.ADMITTED

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        return ContributionVerdict(contribution=contribution, decision=self.said, reason="because I say so")


@pytest.mark.parametrize("said", [Decision.ADMITTED, Decision.REJECTED])
def test_a_gateway_gives_no_verdict(made: RootedFederation, said: Decision) -> None:
    ada = made.enroll("ada")
    lead(made.opened(), 1, now_s=time.time())
    digest = made.send("ada", make_changes(MODEL, 1), ada)
    gateway = Lying(made.opened(leads=False))
    gateway.said = said
    with client(made, gateway=gateway) as asked, pytest.raises(TrustError):
        asked.verdict(1, digest)


def test_a_gateway_binds_no_key_to_an_invitation_that_it_does_not_have(made: RootedFederation) -> None:
    made.invite("eve")
    statement = KeyStatement(
        federation=made.keys.fingerprint, member="eve", number=0, key=THIEF.public, made_at_s=time.time()
    )
    forged = state_key(statement, before=None, own=THIEF)
    with pytest.raises((SignatureError, NotAllowedError)):
        bind_key(made.store, forged)
    put(
        made, f"{keys_folder('eve', made.invites['eve'].public)}0.json", forged
    )  # whatever it is asked to check, it can write
    lead(made.opened(), 1, now_s=time.time())
    made.send("eve", make_changes(MODEL, 1), Identity("eve", made.keys.fingerprint, THIEF))
    lead(made.opened(), 1)
    assert made.opened().latest().release == 0


def test_what_a_gateway_can_is_to_keep_silent_until_that_is_noticed(made: RootedFederation) -> None:
    released(made, made.enroll("ada"))
    silent = StoreGateway(made.opened(leads=False))  # from now on it hands out what it has
    frozen = {key: silent.read_signed(key) for key in ("channels/latest", root_key(1), members_key(2))}
    released(made, made.enroll("bob"))

    class Frozen(StoreGateway):
        def read_signed(self, key: str) -> bytes | None:
            return frozen.get(key)

    with client(made, gateway=Frozen(made.opened(leads=False))) as asked:
        assert asked.belief.channel("latest").release == 1
    with (
        client(made, gateway=Frozen(made.opened(leads=False)), after_s=CHANNEL_EXPIRES_S + 301) as asked,
        pytest.raises(ExpiredError),
    ):
        asked.belief.channel("latest")


# A store


def a_model_of_its_own(made: RootedFederation, signer: PrivateKey) -> Iterator[None]:
    """Publish a release as an aggregator does, with a key that is none's."""
    federation = made.opened(leads=False)
    latest = federation.latest()
    release = latest.model_copy(update={"release": 1, "parent": 0, "round": 1, "method": "mean"})
    data = encode(release)
    federation.objects.put(sha256(data), data)
    put(made, "releases/00001.json", data)
    now = federation.channel("latest")
    assert isinstance(now, SignedChannel)
    to = now.model_copy(update={
        "release": 1, "manifest": sha256(data), "version": now.version + 1, "round": 1,
    })  # fmt: skip
    for channel in (sign(encode(to), "channel", [signer]), encode(to), encode(Channel.model_validate({
        name: value for name, value in to.model_dump().items() if name in Channel.model_fields
    }))):  # fmt: skip
        put(made, "channels/latest", channel)
        yield


def test_a_store_publishes_nothing(made: RootedFederation) -> None:
    for _ in a_model_of_its_own(made, THIEF):
        for which in ("latest", 1):
            with client(made) as asked, pytest.raises(REFUSED):
                asked.release(which)
    ada = made.enroll("ada")
    assert made.opened().mended_latest().release == 0  # who leads begins with that
    released(made, ada)  # it goes on from what is signed, and what was put in its way gives way
    assert fused(made) == ["ada"]
    with client(made) as asked:
        assert [one.contributor for one in asked.release().contributions] == ["ada"]


@pytest.mark.parametrize("whose", ["its own", "the aggregator's"])
def test_neither_a_store_nor_an_aggregator_enrols(made: RootedFederation, whose: str) -> None:
    signer = THIEF if whose == "its own" else made.keys.aggregator
    released(made, made.enroll("ada"))
    known, now_s = made.opened().trust.refresh(), time.time()
    eve = Member(
        role="operator", invite=THIEF.public, invited_at_s=now_s, join_by_s=now_s + 99, valid_until_s=now_s + 99
    )
    members = Members(
        version=known.members.version + 1, federation=known.fingerprint, members=known.members.members | {"eve": eve}
    )
    running = made.opened()
    with client(made) as asked:
        put(made, members_key(members.version), sign(encode(members), "members", [signer]))
        with pytest.raises(SignatureError, match="operator"):
            asked.belief.known()
    with pytest.raises(SignatureError, match="operator"):  # nobody works with it, and the line says why
        running.trust.refresh()


@pytest.mark.parametrize("whose", ["nobody's", "its own", "the aggregator's"])
def test_neither_a_store_nor_an_aggregator_changes_the_rules(made: RootedFederation, whose: str) -> None:
    settings, _ = read_settings(made.store)
    looser = settings.model_copy(update={"method": "sum", "rules": settings.rules.model_copy(update={"quorum": 9})})
    signers = {"nobody's": None, "its own": THIEF, "the aggregator's": made.keys.aggregator}
    signer = signers[whose]
    running = made.opened()
    put(made, SETTINGS_KEY, encode(looser) if signer is None else sign(encode(looser), "federation", [signer]))
    for read in (running.reopened, lambda: open_federation(made.store, fingerprint=made.keys.fingerprint)):
        assert rules(read) in (None, settings)  # refused in a line, or taken from the copy that is signed
    with client(made, gateway=StoreGateway(running)) as asked, pytest.raises(REFUSED):
        asked.belief.settings()


def rules(read: Callable[[], Federation]) -> FederationSettings | None:
    """Return the rules that somebody goes by; None where they go by none."""
    try:
        return read().settings
    except TrustError:
        return None


def test_a_store_that_pretends_to_have_no_root_is_refused_by_who_knows_it(made: RootedFederation) -> None:
    settings, _ = read_settings(made.store)
    running = made.opened()
    bare = FederationSettings.model_validate(settings.model_dump() | {"root": None})
    put(made, SETTINGS_KEY, encode(bare))
    for read in (running.reopened, lambda: open_federation(made.store, fingerprint=made.keys.fingerprint)):
        assert rules(read) in (None, settings)


def test_a_store_makes_no_root(made: RootedFederation) -> None:
    root, running = made.keys.root, made.opened(leads=False)
    theirs = root.model_copy(update={
        "version": 2, "keys": root.keys | {THIEF.public.id: THIEF.public},
        "roles": {role: keys.model_copy(update={"keys": (THIEF.public.id,)}) for role, keys in root.roles.items()},
    })  # fmt: skip
    for signers in ([THIEF], [THIEF, made.keys.aggregator], [made.keys.aggregator, made.keys.model]):
        put(made, root_key(2), sign(encode(Root.model_validate(theirs.model_dump())), "root", signers))
        with pytest.raises(SignatureError, match="root 2"):
            TrustView(signed_reader(made.store), fingerprint=made.keys.fingerprint).refresh()
        with client(made, gateway=StoreGateway(running)) as asked, pytest.raises(SignatureError, match="root 2"):
            asked.release()


def test_a_store_rewrites_no_history(made: RootedFederation) -> None:
    ada, bob = made.enroll("ada"), made.enroll("bob")
    released(made, ada)
    released(made, bob)
    keys = sorted(key for key in list_keys(made.store, "rounds/00001/journal/") if "received" not in key)
    other = sorted(key for key in list_keys(made.store, "rounds/00002/journal/") if "received" not in key)
    entries = {key: made.store.get(key) for key in keys}
    first, second = keys[:2]
    admission = Admission(contribution="0" * 64, contributor="eve", delta_digest="0" * 64, num_examples=1)
    forgeries = {
        "unsigned": encode(Admitted(admissions=(admission,))),
        "moved": entries[first],
        "of another round": made.store.get(other[1]),
        "signed by a stranger": sign(encode(Admitted(admissions=(admission,))), "journal", [THIEF]),
    }
    for forged in forgeries.values():
        put(made, second, forged)
        with pytest.raises(TrustError):
            made.opened(leads=False).journal(1).state()
        put(made, second, entries[second])
    assert set(made.opened(leads=False).journal(1).state().admitted.values())


def test_a_store_that_was_put_back_is_refused_by_who_has_seen_more(made: RootedFederation, tmp_path: Path) -> None:
    ada = made.enroll("ada")
    shutil.copytree(made.path / "store", tmp_path / "older")
    released(made, ada)
    home = tmp_path / "home"
    with client(made, home=home) as asked:
        assert asked.release().release == 1
    older = replace(made.opened(leads=False), store=LocalStore(tmp_path / "older"), trust=None)
    with client(made, home=home, gateway=StoreGateway(older)) as asked, pytest.raises(RollbackError):
        asked.release()
    with client(made, gateway=StoreGateway(older)) as asked:  # who comes for the first time cannot tell, before
        assert asked.release().release == 0
    late_s = CHANNEL_EXPIRES_S + 301
    with client(made, gateway=StoreGateway(older), after_s=late_s) as asked, pytest.raises(ExpiredError):
        asked.release()  # ... what it is shown has expired


# An aggregator, and its workers. One that publishes what it did not fuse, and a worker that returns wrong parts, are
# found by whoever fuses again: `test_recomputed`.


def test_an_aggregator_that_invents_a_contribution_is_found(
    made: RootedFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = made.enroll("ada")
    made.enroll("bob")
    lead(made.opened(), 1, now_s=time.time())
    made.send("ada", make_changes(MODEL, 1), ada)
    invented = made.send("bob", make_changes(MODEL, 2), Identity("bob", made.keys.fingerprint, THIEF))
    assert [f.cause for f in verify_store(made.store, Request(at_s=time.time())).findings] == []

    def believe(federation: Federation, waiting: Sequence[Received], *_: object) -> Proven:
        proofs = {one.contribution: Proof(read(one), one.signature, one.received_at_s) for one in waiting}
        return Proven(proofs, is_needed=True)

    def read(one: Received) -> ContributionManifest:
        return made.opened().objects.get_value(ContributionManifest, one.contribution)

    monkeypatch.setattr(judging, "prove", believe)
    lead(made.opened(), 1)
    assert fused(made) == ["ada", "bob"]  # all that is its own it has signed
    report = verify_store(made.store, Request(at_s=time.time(), fingerprint=made.keys.fingerprint))
    assert report.status() == Cause.UNKNOWN_KEY.status
    assert any(invented[:12] in finding.where + finding.why for finding in report.findings)


def test_an_aggregators_keys_are_good_for_its_own_work_alone(made: RootedFederation) -> None:
    with pytest.raises(NotAllowedError):
        open_federation(made.store, signer=make_keys().signer)
    root = made.keys.root
    assert root.roles["aggregator"].keys == (made.keys.aggregator.public.id,)
    assert made.keys.aggregator.public.id not in {*root.roles["root"].keys, *root.roles["operator"].keys}


def test_no_key_reaches_a_worker(made: RootedFederation) -> None:
    for held in (made.keys.aggregator, made.keys.signer, made.enroll("ada")):
        with pytest.raises(TypeError, match="does not leave its process"):
            pickle.dumps(held)
