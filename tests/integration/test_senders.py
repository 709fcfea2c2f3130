"""A gateway of a federation with a root: whose contributions it acknowledges, and how many."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from rooted import RootedFederation, make_keys
from tiny_rounds import lead, make_changes, make_contribution, make_model

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import ContributionRejectedError, NotAllowedError
from coldfuse.gateway import Decision, StoreGateway
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import Quota

MODEL = make_model()


@pytest.fixture
def made(tmp_path: Path) -> RootedFederation:
    made = RootedFederation(tmp_path, rules={"quorum": 9, "deadline_s": 600.0})
    lead(made.opened(), 1, now_s=time.time())
    return made


def manifest_of(made: RootedFederation, name: str, seed: int = 0) -> ContributionManifest:
    return make_contribution(made.opened(leads=False), name, make_changes(MODEL, seed))


def commit(made: RootedFederation, manifest: ContributionManifest, identity: Identity | None) -> Decision:
    data = encode(manifest)
    signature = identity.sign(data, "contribution") if identity else None
    with StoreGateway(made.opened(leads=False)) as gateway:
        return gateway.commit_bytes(data, signature).decision


def test_what_a_member_has_signed_is_kept_with_the_signature(made: RootedFederation) -> None:
    ada, manifest = made.enroll("ada"), manifest_of(made, "ada")
    assert commit(made, manifest, ada) is Decision.PENDING
    received = made.opened().journal(1).state().received[sha256(encode(manifest))]
    assert received.signature == ada.sign(encode(manifest), "contribution")
    assert commit(made, manifest, ada) is Decision.PENDING  # once more


def test_nothing_is_acknowledged_that_no_member_has_signed(made: RootedFederation) -> None:
    made.enroll("ada")
    bob, manifest = made.enroll("bob"), manifest_of(made, "ada")
    other = Identity("ada", made.keys.fingerprint, PrivateKey.generate())
    for identity, error in ((None, ContributionRejectedError), (other, NotAllowedError), (bob, NotAllowedError)):
        with pytest.raises(error):
            commit(made, manifest, identity)
    with pytest.raises(NotAllowedError, match="is no member"):
        commit(made, manifest_of(made, "eve"), other)
    assert made.opened().journal(1).state().received == {}


def test_a_signature_holds_for_the_very_bytes_and_for_contributions_alone(made: RootedFederation) -> None:
    ada, manifest = made.enroll("ada"), manifest_of(made, "ada")
    better = encode(manifest.model_copy(update={"num_examples": 10**6}))
    with StoreGateway(made.opened(leads=False)) as gateway:
        for signature in (ada.sign(encode(manifest), "contribution"), ada.sign(better, "check")):
            with pytest.raises(ContributionRejectedError, match="altered or forged"):
                gateway.commit_bytes(better, signature)


def test_a_gateway_that_runs_learns_who_joins_and_who_is_revoked(made: RootedFederation) -> None:
    with StoreGateway(made.opened(leads=False)) as gateway:
        ada = made.enroll("ada")
        first, second = (encode(manifest_of(made, "ada", seed)) for seed in (0, 1))
        assert gateway.commit_bytes(first, ada.sign(first, "contribution")).decision is Decision.PENDING
        made.revoke("ada", since_s=0.0, reason="left")
        gateway._federation.trust.refresh()  # type: ignore[union-attr]  # as it does by itself after two seconds
        with pytest.raises(NotAllowedError, match=r"was revoked by an operator \(left\)"):
            gateway.commit_bytes(second, ada.sign(second, "contribution"))


def test_the_newest_key_signs_and_the_one_before_it_no_more(made: RootedFederation) -> None:
    ada, new = made.enroll("ada"), PrivateKey.generate()
    assert isinstance(ada.signer, PrivateKey)
    made.bind("ada", new, before=ada.signer, number=1)
    with pytest.raises(NotAllowedError, match="use its newest key"):
        commit(made, manifest_of(made, "ada"), ada)
    assert commit(made, manifest_of(made, "ada"), Identity("ada", made.keys.fingerprint, new)) is Decision.PENDING


def test_a_member_sends_as_much_and_as_often_as_its_quota(made: RootedFederation) -> None:
    ada = made.enroll("ada", quota=Quota(contributions_per_day=2))
    bob = made.enroll("bob", quota=Quota(contribution_bytes=100))
    for seed in (0, 1, 0):
        assert commit(made, manifest_of(made, "ada", seed), ada) is Decision.PENDING
    with pytest.raises(ContributionRejectedError, match="may send 2 contributions in 24 hours, and has sent 2"):
        commit(made, manifest_of(made, "ada", 2), ada)
    with pytest.raises(ContributionRejectedError, match="this member may send 100"):
        commit(made, manifest_of(made, "bob"), bob)
    tomorrow = replace(made.opened(leads=False), now_s=lambda: time.time() + 86300.0)
    third = encode(manifest_of(made, "ada", 2))
    with StoreGateway(tomorrow) as gateway, pytest.raises(ContributionRejectedError, match=r"0\.0 h"):
        gateway.commit_bytes(third, ada.sign(third, "contribution"))


def test_in_an_open_federation_a_name_belongs_to_the_first_key(tmp_path: Path) -> None:
    made = RootedFederation(tmp_path, keys=make_keys(is_open=True), rules={"quorum": 9})
    lead(made.opened(), 1, now_s=time.time())
    first, second = PrivateKey.generate(), PrivateKey.generate()
    assert made.bind("ada", first, before=None)
    assert not made.bind("ada", first, before=None)  # as after an answer that was lost
    with pytest.raises(NotAllowedError, match="this name belongs to the key"):
        made.bind("ada", second, before=None)
    ada = Identity("ada", made.keys.fingerprint, first)
    assert commit(made, manifest_of(made, "ada"), ada) is Decision.PENDING
    with pytest.raises(NotAllowedError):
        commit(made, manifest_of(made, "ada", 1), Identity("ada", made.keys.fingerprint, second))
    lead(made.opened(), 1)
    assert [a.contributor for a in made.opened().journal(1).state().admitted.values()] == ["ada"]
