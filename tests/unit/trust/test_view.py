"""Who is who, by nothing but the fingerprint and what is signed."""

from __future__ import annotations

import pickle

import pytest
from federation_keys import NOW_S, TinyTrust, make_root

from coldfuse.core.serialization import encode
from coldfuse.errors import CodecError, NotAllowedError, RollbackError, SignatureError
from coldfuse.trust.envelope import sign
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import Members
from coldfuse.trust.rights import require_right
from coldfuse.trust.root import next_root
from coldfuse.trust.view import TrustView, members_key, root_key


def test_a_member_is_found_by_what_it_signed():
    trust = TinyTrust()
    alice = trust.enroll("alice")
    view = trust.view()
    asker = view.verify(b"payload", "contribution", alice.sign(b"payload", "contribution"), name="alice", what="it")
    assert asker.member is not None
    require_right("Commit", asker, is_open=False, now_s=NOW_S)


@pytest.mark.parametrize("signed", ["other bytes", "another kind", "another's key"])
def test_what_a_member_has_not_signed_is_refused(signed):
    trust = TinyTrust()
    alice, bob = trust.enroll("alice"), trust.enroll("bob")
    signature = {
        "other bytes": alice.sign(b"other", "contribution"),
        "another kind": alice.sign(b"payload", "check"),
        "another's key": bob.sign(b"payload", "contribution"),
    }[signed]
    with pytest.raises((SignatureError, NotAllowedError)):
        trust.view().verify(b"payload", "contribution", signature, name="alice", what="it")


def test_a_key_that_nobody_was_invited_for_is_nobodys():
    trust = TinyTrust()
    trust.invite("alice")
    mallory = PrivateKey.generate()
    trust.invites["alice"] = PrivateKey.generate()  # who has not the invitation signs by a key of their own
    trust.bind("alice", mallory)
    with pytest.raises(SignatureError):
        trust.view().find("alice", mallory.public.id)


def test_an_old_key_signs_the_new_one_and_counts_no_more():
    trust = TinyTrust()
    old = trust.enroll("alice")
    new = trust.bind("alice", PrivateKey.generate(), number=1, before=old.signer)  # type: ignore[arg-type]
    view = trust.view()
    assert view.find("alice", new.signer.public.id).name == "alice"
    with pytest.raises(NotAllowedError, match="its newest key"):
        view.find("alice", old.signer.public.id)
    assert view.find("alice", old.signer.public.id, at_s=NOW_S).keyid == old.signer.public.id


def test_the_list_of_members_is_the_operators():
    trust = TinyTrust()
    forged = Members(version=2, federation=trust.fingerprint)
    trust.stored[members_key(2)] = sign(encode(forged), "members", [trust.aggregator])
    with pytest.raises(SignatureError, match="operator"):
        trust.view().refresh()


def test_a_list_that_was_seen_and_is_gone_is_missed():
    trust = TinyTrust()
    trust.enroll("alice")
    with pytest.raises(RollbackError):
        TrustView(trust.stored.get, fingerprint=trust.fingerprint, members=9).refresh()


def test_a_root_follows_by_the_keys_of_the_one_before_and_its_own():
    trust, new = TinyTrust(), PrivateKey.generate()
    keys = {"root": [new], "operator": [new], "aggregator": [trust.aggregator], "model": [trust.model]}
    second = encode(make_root(keys, version=2))
    trust.stored[root_key(2)] = sign(second, "root", [new])
    with pytest.raises(SignatureError):
        trust.view().refresh()
    trust.stored[root_key(2)] = sign(second, "root", [new, trust.operator])
    trust.publish_members()
    with pytest.raises(SignatureError, match="members"):  # by an operator that is none any more
        trust.view().refresh()
    assert next_root(trust.root, trust.stored[root_key(2)]).version == 2


def test_another_federations_root_is_refused():
    trust, other = TinyTrust(), TinyTrust()
    with pytest.raises(SignatureError, match="another federation"):
        TrustView(trust.stored.get, fingerprint=other.fingerprint).refresh()


def test_one_key_under_two_ids_is_no_root():
    trust = TinyTrust()
    key = trust.operator.public
    with pytest.raises(ValueError, match="another id"):
        type(trust.root).model_validate(trust.root.model_dump() | {"keys": {"0" * 64: key.model_dump()}})


def test_a_private_key_is_shown_and_sent_nowhere():
    key = PrivateKey.generate()
    assert key.public.id[:12] in repr(key)
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(key)


def test_what_is_no_envelope_is_named():
    with pytest.raises(CodecError):
        TrustView(lambda _: b"{}", fingerprint=None).refresh()


def test_whoever_has_an_answer_for_everything_is_not_asked_forever():
    trust, asked = TinyTrust(), []

    def read(key):
        asked.append(key)
        return trust.stored["members/1.json"] if key.startswith("members/") else trust.stored.get(key)

    with pytest.raises(SignatureError, match=r"is version 1 of .*, put in another place"):
        TrustView(read, fingerprint=trust.fingerprint).refresh()
    assert len(asked) < 100


@pytest.mark.parametrize(("kind", "num_bytes"), [("root/2.json", 512_000), ("members/keys/open-ada/0.json", 32_768)])
def test_what_is_longer_than_it_can_be_is_not_parsed(kind, num_bytes):
    trust = TinyTrust(is_open=True)
    trust.stored[kind] = b" " * (num_bytes + 1)
    with pytest.raises(CodecError, match=f"expected at most {num_bytes:,} bytes, and there are more; it is not read"):
        trust.view().find("ada", "0" * 64)


def test_a_key_of_a_replaced_invitation_signs_nothing_after_that() -> None:
    trust = TinyTrust()
    lost = trust.enroll("ada")
    before = trust.members["ada"]
    trust.invite("ada", invited_at_s=NOW_S + 1000)  # the key was stolen: she is invited anew
    trust.former = (("ada", before),)
    trust.publish_members()
    own = trust.bind("ada", PrivateKey.generate())
    view = trust.view()

    assert view.find("ada", lost.signer.public.id, at_s=NOW_S + 900).member == before
    assert view.find("ada", own.signer.public.id, at_s=NOW_S + 9000).member == trust.members["ada"]
    with pytest.raises(NotAllowedError, match="none of this member's"):
        view.find("ada", lost.signer.public.id, at_s=NOW_S + 9000)
