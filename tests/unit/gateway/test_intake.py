"""Strangers hear nothing of what others have sent."""

from __future__ import annotations

import pytest
from federations import make_delta, make_federation, make_manifest, open_round

from coldfuse.core.blob import Part
from coldfuse.core.serialization import encode
from coldfuse.errors import ContributionRejectedError, StorageError
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.intake import Intake, sender_of
from coldfuse.storage import MemoryStore

ADA, EVE, UNNAMED = sender_of("ada's", "10.0.0.1"), sender_of("eve's", "10.0.0.1"), sender_of(None, "10.0.0.1")


@pytest.fixture
def federation():
    federation = make_federation(MemoryStore())
    open_round(federation)
    return federation


@pytest.fixture
def intake(federation):
    return Intake(StoreGateway(federation, num_threads=2), federation)


def bring(intake, delta, *, sender):
    (part,) = delta.blob.parts
    data = bytearray(part.size_bytes)
    delta.read_range(memoryview(data), 0)
    upload = intake.begin_upload(part, sender)
    upload.write(data)
    return upload.finish()


def test_only_its_sender_hears_that_a_part_is_there(intake, federation):
    delta = make_delta([10])
    parts = list(delta.blob.parts)
    bring(intake, delta, sender=ADA)
    another = Intake(StoreGateway(federation, num_threads=2), federation)
    for _ in range(2):
        assert [intake.find_missing(parts, sender) for sender in (ADA, EVE, UNNAMED)] == [[], parts, parts]
        intake.__exit__()  # from now on another gateway knows as much
        assert another.find_missing(parts, ADA) == []


def test_a_part_that_is_there_is_taken_like_a_new_one(intake):
    delta = make_delta([10])
    assert bring(intake, delta, sender=ADA) == bring(intake, delta, sender=EVE) == 10
    assert intake.find_missing(delta.blob.parts, EVE) == []


def test_a_commit_does_not_tell_which_part_is_missing(intake):
    there, not_there = make_delta([10]), Part(digest="0" * 64, size_bytes=1)
    bring(intake, there, sender=ADA)
    answers = []
    for guess in (there.blob.parts[0], Part(digest="1" * 64, size_bytes=10)):
        blob = there.blob.model_copy(update={"parts": (guess, not_there)})
        with pytest.raises(ContributionRejectedError) as caught:
            intake.commit(encode(make_manifest(blob)), EVE)
        answers.append(str(caught.value))
    assert answers[0] == answers[1]


def test_a_part_that_was_lost_is_missing_again(intake, federation):
    delta = make_delta([10])
    bring(intake, delta, sender=ADA)
    federation.store.delete(f"objects/{delta.blob.parts[0].digest}")
    assert intake.find_missing(delta.blob.parts, ADA) == list(delta.blob.parts)


def test_asking_costs_a_look_however_much_is_asked_for(intake, federation, monkeypatch):
    looks = []
    for name in ("head", "get", "list"):
        inner = getattr(federation.store, name)
        monkeypatch.setattr(federation.store, name, lambda *a, inner=inner, **k: looks.append(a) or inner(*a, **k))
    parts = [Part(digest=f"{n:064x}", size_bytes=1) for n in range(4096)]
    assert (intake.find_missing(parts, EVE), len(looks)) == (parts, 1)
    assert (intake.find_missing(parts, UNNAMED), len(looks)) == (parts, 1)


def test_neither_secret_nor_address_is_stored(intake, federation):
    bring(intake, make_delta([10]), sender=ADA)
    intake.__exit__()
    (key,) = federation.store.list("uploads/").keys
    stored = key.encode() + federation.store.get(key)
    assert b"ada" not in stored
    assert b"10.0.0.1" not in stored


def test_where_the_store_takes_nothing_that_is_said_until_it_does(federation):
    reasons = ["the disk is full", "the disk is full", None]
    intake = Intake(StoreGateway(federation, num_threads=2), federation, why_not=lambda: reasons.pop(0))
    delta = make_delta([10])
    for _ in range(2):
        with pytest.raises(StorageError, match="takes no contributions at present: the disk is full"):
            bring(intake, delta, sender=ADA)
        with pytest.raises(StorageError, match="takes no contributions at present"):
            intake.commit(b"", ADA)
        intake.look_again()
    assert bring(intake, delta, sender=ADA) == 10
