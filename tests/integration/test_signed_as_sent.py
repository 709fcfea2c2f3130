"""What a node sends is signed as it is sent: by the newest key, also where that is replaced in this very moment."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from own_training import aggregating
from rooted import RootedFederation, make_keys
from tiny_rounds import lead, make_changes, make_contribution, make_model, read_model

import coldfuse as api
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.contributor.signing import claim_name, hand_in
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.signature import Signature
from coldfuse.errors import ContributionRejectedError, NotAllowedError
from coldfuse.gateway import ContributionVerdict, Decision, StoreGateway
from coldfuse.trust.home import FederationFolder, Membership
from coldfuse.trust.identity import Identity, find_identity
from coldfuse.trust.keys import PrivateKey

MODEL = make_model()


class Watched(StoreGateway):
    """A gateway that sees what it is given, before which something may happen."""

    def __init__(self, made: RootedFederation, before: object = None) -> None:
        super().__init__(made.opened(leads=False))
        self.before, self.signed_by = before, list[str | None]()

    def commit(self, manifest: ContributionManifest, signature: Signature | None = None) -> ContributionVerdict:
        self.signed_by.append(signature.keyid if signature else None)
        if callable(self.before):
            self.before()
            self.before = None
        return super().commit(manifest, signature)


@pytest.fixture
def made(tmp_path: Path) -> RootedFederation:
    made = RootedFederation(tmp_path)
    lead(made.opened(), 1, now_s=time.time())
    return made


def keep(made: RootedFederation, identity: Identity) -> FederationFolder:
    folder = FederationFolder(made.path / "home", made.keys.fingerprint)
    folder.write_key(identity.name, identity.signer)
    return folder


def as_member(made: RootedFederation, gateway: StoreGateway, identity: Identity | None) -> TrustedGateway:
    return TrustedGateway(gateway, anchor=made.keys.fingerprint, identity=identity)


@pytest.mark.parametrize("is_in_place", [False, True], ids=["staged", "in its place"])
def test_a_key_that_is_replaced_while_it_signs_is_followed_by_the_new_one(
    made: RootedFederation, is_in_place: bool
) -> None:
    ada = made.enroll("ada")
    folder = keep(made, ada)
    old, new = ada.signer, folder.stage_key("ada")

    def rotate() -> None:
        made.bind("ada", new, before=old, number=1)
        if is_in_place:
            folder.promote_key("ada")

    gateway = Watched(made, rotate)
    manifest = make_contribution(made.opened(), "ada", make_changes(MODEL, 1))
    with as_member(made, gateway, find_identity(folder, "ada")) as asked:
        assert hand_in(asked, manifest).decision is Decision.PENDING
    assert gateway.signed_by == [old.public.id, new.public.id]


def test_who_has_no_other_key_is_told_so_and_tries_once(made: RootedFederation) -> None:
    ada = made.enroll("ada")
    folder = keep(made, ada)
    made.bind("ada", PrivateKey.generate(), before=ada.signer, number=1)  # by somebody who has a copy of it
    gateway = Watched(made)
    manifest = make_contribution(made.opened(), "ada", make_changes(MODEL, 1))
    with (
        as_member(made, gateway, find_identity(folder, "ada")) as asked,
        pytest.raises(NotAllowedError, match="none of this member's"),
    ):
        hand_in(asked, manifest)
    assert len(gateway.signed_by) == 1


def test_who_is_nobody_signs_nothing_and_a_closed_federation_takes_nothing_of_theirs(made: RootedFederation) -> None:
    gateway = Watched(made)
    manifest = make_contribution(made.opened(), "ada", make_changes(MODEL, 1))
    with as_member(made, gateway, None) as asked, pytest.raises(ContributionRejectedError, match="is not signed"):
        hand_in(asked, manifest)
    assert gateway.signed_by == [None]


def test_a_name_of_an_open_federation_is_claimed_once_and_kept_through_rotations(tmp_path: Path) -> None:
    made = RootedFederation(tmp_path, keys=make_keys(is_open=True))
    one, two = (FederationFolder(tmp_path / home, made.keys.fingerprint) for home in ("one", "two"))
    ada, thief = (find_identity(folder, "ada", is_open=True) for folder in (one, two))
    with StoreGateway(made.opened(leads=False)) as gateway:
        claim_name(gateway, ada)
        claim_name(gateway, ada)
        with pytest.raises(NotAllowedError, match=r"ada: this name belongs to another key.*choose another name"):
            claim_name(gateway, thief)
        new = one.stage_key("ada")
        assert made.bind("ada", new, before=ada.signer, number=1)
        claim_name(gateway, ada)  # it follows to the key that waits for its place
        assert ada.signer.public == new.public


def test_a_round_of_ones_own_is_signed_under_the_name_that_was_joined(
    made: RootedFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = keep(made, made.enroll("ada"))
    folder.pin_root(made.keys.signed_root())
    folder.keep_membership(Membership(federation=made.keys.fingerprint, name="ada"))
    monkeypatch.setenv("COLDFUSE_HOME", str(made.path / "home"))
    monkeypatch.chdir(made.path)
    with aggregating(made.opened()), api.connect(made.path / "store") as federation:
        with federation.round() as this:
            state = {n: t.floats + np.float32(0.01) for n, t in read_model(this.folder).items() if t.spec.is_fused}
            this.contribute(state, num_examples=3)
        assert this.base_release == 0
        assert [one.contributor for one in federation.releases(limit=1)[0].contributions] == ["ada"]
    assert [path.name for path in (made.path / ".coldfuse").iterdir()] == ["ada"]
