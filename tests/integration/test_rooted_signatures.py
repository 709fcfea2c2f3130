"""Signatures of a federation's releases while its keys change: made by rounds, taken over, and believed by clients."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rooted import RootedFederation, make_keys
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model, make_round

from coldfuse.aggregator.resigning import take_over_history
from coldfuse.aggregator.round import advance
from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.api.lineage import trace
from coldfuse.consumer import fetch
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.round import Closed
from coldfuse.core.serialization import encode, sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import SignatureError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.adoption import adopt
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.releases import read_statement_of, release_key
from coldfuse.trust.envelope import sign
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.lineage import signing_keys
from coldfuse.trust.model_signature import model_signature_key
from coldfuse.trust.provenance import statement_key, statement_of
from coldfuse.trust.signed_folder import verify_folder

MODEL = make_model()


@pytest.fixture
def made(tmp_path: Path) -> RootedFederation:
    """A federation with releases 0, 1 and 2."""
    made = RootedFederation(tmp_path, rules={"quorum": 1, "deadline_s": 60.0})
    ada = made.enroll("ada")
    for number in (1, 2):
        lead(made.opened(), number, now_s=time.time())
        made.send("ada", make_changes(MODEL, number), ada)
        lead(made.opened(), number, now_s=time.time())
    assert made.opened().latest().release == 2
    return made


def links(federation: Federation, number: int) -> dict[str, str]:
    """Return the SHA-256 of what was signed of each of a round's entries, by its event."""
    found = {}
    for key in federation.store.list(f"rounds/{number:05d}/journal/").keys:
        payload = base64.b64decode(json.loads(federation.store.get(key)).get("payload", ""))
        found[key.rpartition("-")[2]] = sha256(payload)
    return found


def test_a_release_that_a_round_has_made_names_the_journal_that_led_to_it(made: RootedFederation) -> None:
    federation = made.opened(leads=False)
    for number in (1, 2):
        digest = sha256(federation.release_bytes(number))
        keys = [made.keys.aggregator.public]
        statement = read_statement_of(federation.store, federation.release(number), digest=digest, keys=keys)
        assert statement is not None
        assert statement.journal_head == links(federation, number)["fused"]
        assert statement.parameters.terms is not None


def rotate(made: RootedFederation, *, model: PrivateKey | None = None) -> FounderKeys:
    """Give the federation another aggregator's key, as its operator does, and return the keys from then on."""
    new = replace(made.keys, aggregator=PrivateKey.generate(), model=model or made.keys.model)
    root = new.root.model_copy(update={"version": 2})
    made.store.put_if_absent("root/2.json", sign(encode(root), "root", made.keys.operators))
    return new


def lead_until_it_is_idle(made: RootedFederation, keys: FounderKeys) -> None:
    """Run an aggregator that has nothing to publish: it begins to lead, and ends."""
    federation = open_federation(made.store, signer=keys.signer)
    settings = AggregatorSettings(until=2, poll_s=0.05)
    for _ in serve_rounds(federation, ThreadExecutor(1), settings, stop=threading.Event()):
        pass


def client(made: RootedFederation) -> TrustedGateway:
    return TrustedGateway(StoreGateway(made.opened(leads=False)), anchor=made.keys.fingerprint)


def test_a_new_key_takes_the_history_over_and_clients_believe_all_of_it(made: RootedFederation, tmp_path: Path) -> None:
    keys = rotate(made)
    lead_until_it_is_idle(made, keys)
    gateway = client(made)
    assert [summary.name.number for summary in gateway.releases()] == [2, 1, 0]
    for number in (0, 1, 2):
        fetch(gateway, tmp_path / "out", which=number)
        verify_folder(tmp_path / "out", [made.keys.model.public])
    found = signing_keys(gateway.read_signed, fingerprint=made.keys.fingerprint)
    assert {step.signed.keyid for step in trace(gateway, found)} == {keys.aggregator.public.id}


def test_a_key_that_is_taken_up_between_two_rounds_takes_over_what_came_before(made: RootedFederation) -> None:
    keys, eve = rotate(made), made.enroll("eve")
    open_federation(made.store, signer=keys.signer).mended_latest()
    for _ in range(2):
        lead(open_federation(made.store, signer=keys.signer), 3, now_s=time.time())
        if made.opened(leads=False).channel("latest").release == 2:
            made.send("eve", make_changes(MODEL, 3), eve)
    assert made.opened(leads=False).channel("latest").release == 3  # signed by the new key, and those before are not
    lead_until_it_is_idle(made, keys)
    assert [summary.name.number for summary in client(made).releases()] == [3, 2, 1, 0]


def test_what_is_signed_anew_says_what_it_said(made: RootedFederation) -> None:
    before = [json.loads(made.store.get(statement_key(number)))["payload"] for number in range(3)]
    keys = rotate(made)
    lead_until_it_is_idle(made, keys)
    assert [json.loads(made.store.get(statement_key(number)))["payload"] for number in range(3)] == before
    assert take_over_history(open_federation(made.store, signer=keys.signer)) == 0


def test_with_a_new_model_key_the_latest_folder_is_signed_by_it(made: RootedFederation, tmp_path: Path) -> None:
    keys = rotate(made, model=PrivateKey.generate_p256())
    lead_until_it_is_idle(made, keys)
    fetch(client(made), tmp_path / "out")
    verify_folder(tmp_path / "out", [keys.model.public])
    with pytest.raises(SignatureError, match="is made with key"):
        verify_folder(tmp_path / "out", [made.keys.model.public])


def test_what_does_not_hang_on_the_latest_release_is_not_signed_anew(made: RootedFederation) -> None:
    federation = made.opened()
    other = federation.release(0).model_copy(update={"created_at_s": 5.0})
    federation.objects.put_value(other)
    payload = statement_of(
        other, digest=sha256(encode(other)), parent=None, files=None, terms=None, journal_head=None
    )  # fmt: skip
    forged = sign(payload, "provenance", [made.keys.aggregator])  # by who has stolen the old key, and can write
    for key, data in ((release_key(0), encode(other)), (statement_key(0), forged)):
        made.store.compare_and_swap(key, data, etag=made.store.get_with_etag(key)[1])
    keys = rotate(made)
    lead_until_it_is_idle(made, keys)
    signers = [json.loads(made.store.get(statement_key(number)))["signatures"][0]["keyid"] for number in range(3)]
    assert signers == [made.keys.aggregator.public.id, keys.aggregator.public.id, keys.aggregator.public.id]


def test_a_leader_with_the_right_key_writes_nothing_anew(made: RootedFederation) -> None:
    keys = [key(number) for key in (model_signature_key, statement_key) for number in range(3)]
    before = [made.store.get_with_etag(key) for key in keys]
    lead_until_it_is_idle(made, made.keys)
    assert [made.store.get_with_etag(key) for key in keys] == before


def test_a_takeover_that_is_cut_off_is_finished_by_the_next_leader(made: RootedFederation) -> None:
    keys, before = rotate(made), [made.store.get(statement_key(number)) for number in range(3)]
    lead_until_it_is_idle(made, keys)
    for number in (0, 1):  # as if it had been killed after the first, which is the newest
        etag = made.store.get_with_etag(statement_key(number))[1]
        made.store.compare_and_swap(statement_key(number), before[number], etag=etag)
    assert take_over_history(open_federation(made.store, signer=keys.signer)) == 2
    assert [summary.name.number for summary in client(made).releases()] == [2, 1, 0]


def test_of_an_adopted_history_what_is_older_is_unsigned_and_hangs_on_what_is_signed(tmp_path: Path) -> None:
    plain = make_federation(tmp_path, MODEL, quorum=1)
    for number in (1, 2):
        contribute(plain, "ada", make_changes(MODEL, number))
        round_ = make_round(plain, number)
        while not any(isinstance(event, Closed) for event in advance(round_)):
            pass
        if number == 1:
            lead(plain, 1)
    federation = adopt(plain.store, make_keys(), wait=lambda _: None)
    lead(federation, 2)
    gateway = TrustedGateway(StoreGateway(federation), anchor=str(federation.settings.root))
    found = signing_keys(gateway.read_signed, fingerprint=federation.settings.root)
    steps = list(trace(gateway, found))
    assert [step.number for step in steps] == [2, 1, 0]
    assert [bool(step.signed.keyid) for step in steps] == [True, False, False]
    assert not any(step.signed.problem for step in steps)
    assert steps[0].signed.statement is not None
    assert steps[0].signed.statement.parent == sha256(federation.release_bytes(1))
    fetch(gateway, tmp_path / "out", which=1)
    assert not (tmp_path / "out" / "model.sig").exists()
    fetch(gateway, tmp_path / "out")
    assert (tmp_path / "out" / "model.sig").exists()
