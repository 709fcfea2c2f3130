"""Journals as a signed chain: what is believed, what counts as damaged, and what is called forged."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from federation_keys import NOW_S, TinyTrust, make_root

from coldfuse.consumer.belief import Belief
from coldfuse.core.contribution import Admission, Measured, Rejection
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.round import Abandoned, Admitted, Closed, Opened, Rejected
from coldfuse.core.sealed import seal
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.core.signature import Signature
from coldfuse.core.value import Value
from coldfuse.errors import ChainError, SignatureError, TrustError
from coldfuse.registry.chain import Chain, Head, Link
from coldfuse.registry.journal import Journal
from coldfuse.registry.signed import write_signed
from coldfuse.registry.trust import signed_reader
from coldfuse.storage import MemoryStore
from coldfuse.trust.envelope import read_envelope, sign
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.seen import Memory
from coldfuse.trust.view import TrustView, root_key
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.journals import Journals
from coldfuse.verification.signers import follow_roots

OPENED = Opened(base_release=0, base_digest="0" * 64, opened_at_s=1.0)
CLOSED = Closed(contributions=(), reason="enough")
HEAD, FOLDER = "rounds/00007/head", "rounds/00007/journal/"


class Signed:
    """A store with a root, and journals of round 7 and others on it."""

    def __init__(self) -> None:
        self.trust = TinyTrust()
        self.store = MemoryStore()
        for key, data in self.trust.stored.items():
            self.store.put_if_absent(key, data)

    def journal(self, number: int = 7, *, key: PrivateKey | None = None, reads: bool = False) -> Journal:
        view = TrustView(signed_reader(self.store), fingerprint=self.trust.fingerprint)
        chain = Chain(view, number, None if reads else key or self.trust.aggregator)
        before = None if number == 1 else lambda: self.journal(number - 1, reads=True).newest_link()
        return Journal(self.store, number, codec=chain, before=before or (lambda: None))

    def reader(self) -> Journal:
        return self.journal(reads=True)

    def fill(self, number: int = 7) -> Journal:
        journal = self.journal(number)
        for event in (OPENED, Admitted(admissions=(), elapsed_s=1.0), CLOSED):
            journal.append(event)
        return journal

    def replace(self, key: str, data: bytes) -> None:
        self.store.compare_and_swap(key, data, etag=self.store.get_with_etag(key)[1])

    def link(self, key: str) -> Link:
        return decode(Link, read_envelope(self.store.get(key), what=key).content("journal", what=key), what=key)

    def rotate(self, new: PrivateKey) -> None:
        keys = {"root": [self.trust.operator], "operator": [self.trust.operator], "aggregator": [new],
                "model": [self.trust.model]}  # fmt: skip
        root = make_root(keys, version=2)  # type: ignore[arg-type]
        self.store.put_if_absent(root_key(2), sign(encode(root), "root", [self.trust.operator]))


@pytest.fixture
def signed() -> Signed:
    return Signed()


def test_every_link_names_the_one_before_it_and_the_first_one_of_the_round_before(signed: Signed) -> None:
    signed.fill(6)
    signed.fill(7)
    last = None
    for number in (6, 7):
        for seq, event in enumerate(("opened", "admitted", "closed")):
            key = f"rounds/{number:05d}/journal/{seq:08d}-{event}"
            assert signed.link(key).before == last
            last = sha256(read_envelope(signed.store.get(key), what="").content("journal", what=""))
    assert signed.journal(7, reads=True).newest_link() == last


def test_a_reader_without_a_key_reads_what_the_aggregator_has_written(signed: Signed) -> None:
    assert signed.fill().led() == signed.reader().led()
    assert signed.reader().state().closed == CLOSED


def test_who_has_no_key_or_another_writes_nothing_that_is_believed(signed: Signed) -> None:
    signed.fill()
    journal = signed.reader()
    journal.led()
    with pytest.raises(SignatureError, match="only who has the aggregator's key"):
        journal.append(CLOSED)
    other = signed.journal(key=PrivateKey.generate())
    other.led()
    with pytest.raises(TrustError):
        other.append(Abandoned(reason="by nobody"))
    with pytest.raises(SignatureError, match=r"rounds/00007/head: is signed by"):
        signed.reader().led()


FORGED = {
    "a link of another key": lambda s: write_signed(
        encode(s.link(f"{FOLDER}00000002-closed")), "journal", [PrivateKey.generate()]),
    "the link in another place": lambda s: s.store.get(f"{FOLDER}00000001-admitted"),
    "a link of another round": lambda s: s.store.get("rounds/00006/journal/00000002-closed"),
    "a link of another federation": lambda s: write_signed(
        encode(s.link(f"{FOLDER}00000002-closed").model_copy(update={"federation": "1" * 64})),
        "journal", [s.trust.aggregator]),
    "a link after another one": lambda s: write_signed(
        encode(s.link(f"{FOLDER}00000002-closed").model_copy(update={"before": "1" * 64})),
        "journal", [s.trust.aggregator]),
    "the same said as something else": lambda s: write_signed(
        encode(s.link(f"{FOLDER}00000002-closed")), "channel", [s.trust.aggregator]),
}  # fmt: skip


UNSIGNED = {
    f"{FOLDER}00000002-closed": CLOSED,
    HEAD: Head(seq=3, entry=Rejected(rejections=()), is_abandoned=False),
}


@pytest.mark.parametrize("write", [seal, encode])
@pytest.mark.parametrize("key", UNSIGNED)
def test_what_reads_well_and_is_signed_by_nobody_is_forged(
    signed: Signed, key: str, write: Callable[[Value], bytes]
) -> None:
    signed.fill().append(Rejected(rejections=()))
    signed.replace(key, write(UNSIGNED[key]))
    with pytest.raises(SignatureError, match=f"{key}: is signed by nobody"):
        signed.reader().led()


@pytest.mark.parametrize("what", FORGED)
@pytest.mark.parametrize("key", UNSIGNED)
def test_what_is_forged_is_named_and_never_passed_over(signed: Signed, what: str, key: str) -> None:
    signed.fill(6)
    signed.fill(7).append(Rejected(rejections=()))
    signed.replace(key, FORGED[what](signed))
    if key == HEAD and what == "the link in another place":  # a head of some time ago, as a stale store hands it out
        assert signed.reader().led().closed is None
        return
    with pytest.raises(TrustError, match=r"(rounds/00007|round 7)"):
        signed.reader().led()


@pytest.mark.parametrize("place", ["payload", "signatures", "seal", "whole"])
def test_a_flipped_bit_is_damage_and_the_head_makes_up_for_it(signed: Signed, place: str) -> None:
    signed.fill()
    key = f"{FOLDER}00000002-closed"
    data = bytearray(signed.store.get(key))
    data[5 if place == "whole" else data.index(place.encode()) + 30] ^= 1
    signed.replace(key, bytes(data))
    assert signed.reader().led().closed == CLOSED
    assert signed.reader().recovered(key) == signed.store.get(HEAD)


def test_a_damaged_entry_in_the_middle_is_lost_and_what_follows_is_believed(signed: Signed) -> None:
    signed.fill().append(Rejected(rejections=()))
    signed.replace(f"{FOLDER}00000001-admitted", b"rot")
    assert signed.reader().led().closed == CLOSED


def test_a_lost_head_is_made_of_the_last_entry_and_is_signed(signed: Signed) -> None:
    signed.fill()
    signed.store.delete(HEAD)
    journal = signed.journal()
    journal.state()
    assert journal.needs_head
    assert journal.mend_head()
    assert signed.reader().led().closed == CLOSED
    assert signed.link(HEAD).seq == 2


def test_what_a_leader_has_not_seen_any_more_counts_for_nobody(signed: Signed) -> None:
    """An entry that one reader cannot read and another can: who wrote after it decides that it is lost."""
    signed.fill()
    there = signed.store.get(f"{FOLDER}00000002-closed")
    signed.store.delete(f"{FOLDER}00000002-closed")
    signed.store.delete(HEAD)
    journal = signed.journal()
    journal.state()
    journal.append(Rejected(rejections=()))  # in the place of what is gone
    signed.store.put_if_absent(f"{FOLDER}00000002-closed", there)
    assert signed.reader().state().closed is None


def test_a_dead_leaders_last_entry_is_written_by_who_has_no_key(signed: Signed) -> None:
    signed.fill()
    signed.store.delete(f"{FOLDER}00000002-closed")
    assert signed.reader().state().closed == CLOSED
    assert signed.store.get(f"{FOLDER}00000002-closed") == signed.store.get(HEAD)


def test_a_new_key_goes_on_and_the_old_one_adds_nothing_more(signed: Signed) -> None:
    signed.fill()
    old, new = signed.trust.aggregator, PrivateKey.generate()
    signed.rotate(new)
    journal = signed.journal(key=new)
    assert journal.led().closed == CLOSED
    journal.append(Rejected(rejections=()))
    late = signed.journal(key=old)
    late.led()
    with pytest.raises(ChainError, match="a key that had been replaced before"):
        late.append(Abandoned(reason="stolen"))
    with pytest.raises(ChainError, match="a key that had been replaced before"):
        signed.reader().led()


def test_an_old_key_does_not_pass_for_the_new_one_beside_it(signed: Signed) -> None:
    signed.fill()
    old, new = signed.trust.aggregator, PrivateKey.generate()
    signed.rotate(new)
    signed.journal(key=new).led()
    journal = signed.journal(key=new)
    journal.led()
    journal.append(Rejected(rejections=()))
    link = signed.link(HEAD).model_copy(update={"seq": 4, "before": signed.reader().newest_link()})
    forged = json.loads(write_signed(encode(link), "journal", [old]))
    forged["signatures"].append(json.loads(signed.store.get(HEAD))["signatures"][0])
    del forged["seal"]
    signed.replace(HEAD, json.dumps(forged).encode())
    with pytest.raises(SignatureError, match="has 2 signatures"):
        signed.reader().led()


def test_ten_thousand_signed_contributions_are_carried_in_one_entry(signed: Signed) -> None:
    signature = Signature(keyid="1" * 64, sig="A" * 88)
    measured = Measured(kind="full, dense", norm=0.123456789012345, layers=(0.123456789012345,) * 16,
                        num_changed=10**9, largest=0.123456789, sketch="ab" * 64)  # fmt: skip
    one = Admission(contribution="0" * 64, contributor="c" * 20, delta_digest="2" * 64, num_examples=1000, score=0.9,
                    measured=measured, checks="3" * 64, signature=signature, signed_at_s=1.8e9)  # fmt: skip
    carried = tuple(one.model_copy(update={"contribution": f"{number:064x}"}) for number in range(10_000))
    signed.journal().append(OPENED.model_copy(update={"carried": carried}))
    assert len(signed.reader().led().admitted) == 10_000


def test_an_entry_longer_than_anything_else_can_be_is_read_by_clients_and_verifiers(signed: Signed) -> None:
    rejections = [
        Rejection(contribution=f"{number:064x}", contributor="ada", reason="x" * 2000) for number in range(4500)
    ]
    signed.journal().append(Rejected(rejections=tuple(rejections)))
    data = signed.store.get(f"{FOLDER}00000000-rejected")
    belief = Belief(signed.trust.stored.get, fingerprint=signed.trust.fingerprint, memory=Memory(), clock=lambda: NOW_S)
    assert isinstance(belief.require_entry(data, 7), Rejected)
    look = Inspection(signed.store, at_s=NOW_S)
    seen = Journals(look, settings_of(signed), follow_roots(look, signed.trust.fingerprint)).read(7, before=None)
    assert (len(seen.state.rejected), look.findings.kept) == (len(rejections), [])


def settings_of(signed: Signed) -> FederationSettings:
    return FederationSettings(
        federation=signed.trust.fingerprint, root=signed.trust.fingerprint, name="tiny", rules=RoundRules(),
        method="mean", created_at_s=1.0, base="hand-made", release_zero="0" * 64,
    )  # fmt: skip
