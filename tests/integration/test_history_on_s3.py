"""A federation's history on S3: a gate that drops what harms, a step back, a retraction that a third party computes
again, and collections that remove thousands of objects and nothing that anybody needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from evaluating import EvaluatedFederation
from gated import SignSuite, examiner
from operators import Person
from tiny_rounds import read_release

from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.retract import retract
from coldfuse.aggregator.round import Round, advance
from coldfuse.core.gating import Asked
from coldfuse.core.retention import RetentionRules
from coldfuse.core.round import LeaderEvent, Published
from coldfuse.core.serialization import sha256
from coldfuse.doctor.examine import Examination
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import FederationError, UserInputError
from coldfuse.gateway.garbage import Garbage, collect, survey
from coldfuse.registry.moving import roll_back
from coldfuse.registry.objects import object_key
from coldfuse.registry.published import next_number
from coldfuse.registry.round_clock import RoundClock
from coldfuse.storage.base import list_keys
from coldfuse.tensors.checkpoint import open_release
from coldfuse.tensors.contents import content_digest

NUM_LEFT_OVER = 1100
"""More than one page of what S3 lists."""


def lead_on(made: EvaluatedFederation, number: int) -> list[LeaderEvent]:
    """Lead a round with the operator's suite, as who knows of steps back."""
    federation = made.federation
    pointer = federation.channel("latest")
    base = open_base(
        federation, federation.release_at(pointer),
        number=next_number(federation.store, federation.settings, federation.trust, pointer=pointer),
    )  # fmt: skip
    round_ = Round(
        federation=federation, journal=federation.journal(number), base=base, executor=ThreadExecutor(1),
        now_s=federation.now_s, clock=RoundClock(lambda: 0.0), rollback=pointer.rollback, examiner=examiner(),
    )  # fmt: skip
    events: list[LeaderEvent] = []
    while new := advance(round_):
        events += new
    return events


def play(made: EvaluatedFederation, number: int, **shares: float) -> None:
    lead_on(made, number)
    made.send_all(**shares)
    lead_on(made, number)


def leave_over(made: EvaluatedFederation) -> set[str]:
    """Put objects that nobody names; return their keys."""
    data = [f"left over {number}".encode() for number in range(NUM_LEFT_OVER)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: made.federation.objects.put(sha256(each), each), data))
    return {object_key(sha256(each)) for each in data}


def clean(made: EvaluatedFederation) -> Garbage:
    """Collect by the strictest rules, without waiting."""
    rules = RetentionRules(keep_releases=1, keep_deltas=1)
    return collect(made.federation, rules, settle_s=0.0, wait=lambda _: None)


def assert_whole(made: EvaluatedFederation, found: Garbage) -> None:
    """What was kept reads, and its digest is right."""
    for number in found.kept.files:
        release = made.federation.release(number)
        opened = open_release(made.store.url, release)
        assert content_digest(list(opened.files.values())) == release.model_digest, number
    assert [str(one) for one in Examination(made.federation).run().findings] == []


@pytest.fixture
def made(tmp_path: Path, s3_url: str) -> EvaluatedFederation:
    return EvaluatedFederation(tmp_path, url=s3_url, evaluators=(), quorum=2)


def test_gate_step_back_retraction_and_collection_in_turn(made: EvaluatedFederation, tmp_path: Path) -> None:
    federation = made.federation
    play(made, 1, ada=0.3, ben=0.2, cy=-3.0)  # the gate drops cy
    assert {one.contributor for one in federation.latest().contributions} == {"ada", "ben"}
    play(made, 2, ada=0.2, ben=0.1, cy=0.1)
    play(made, 3, ada=0.1, ben=0.1, cy=0.2)
    lead_on(made, 4)
    roll_back(federation, 2, reason="worse elsewhere", by="op", signer=made.keys.operators[0])
    lead_on(made, 4)  # ends
    play(made, 5, ada=0.1, ben=0.1, cy=0.1)
    assert (federation.latest().release, federation.latest().parent) == (4, 2)

    done = retract(federation, "ben", ThreadExecutor(1), reason="asked for it", wait=lambda _: None)
    assert done.release is not None
    assert (done.release.release, done.release.parent) == (5, 0)
    assert {one.contributor for one in done.release.contributions} == {"ada", "cy"}
    fingerprint = made.keys.fingerprint
    third = Person(tmp_path / "third")  # holds no key, and reads the store
    said = third.succeed("verify", made.store.url, "--root", fingerprint, "--recompute", "--objects").output
    assert "release 5" in said
    assert "same bytes" in said, said

    left_over = leave_over(made)
    assert sum(survey(federation, RetentionRules()).num_objects.values()) >= NUM_LEFT_OVER
    found = clean(made)
    assert sum(found.num_objects.values()) > NUM_LEFT_OVER  # and what the rules let go
    there = set(list_keys(made.store, "objects/"))
    assert not there & left_over
    assert {0, 5} <= set(found.kept.files)
    assert_whole(made, found)
    third.succeed("verify", made.store.url, "--root", fingerprint, "--recompute", "--objects")
    with pytest.raises((FederationError, UserInputError), match=r"retracted since|retention rules"):
        roll_back(federation, 1, reason="", by="", signer=made.keys.operators[0])
    assert not clean(made).num_objects
    lead_on(made, federation.current_round())
    play(made, federation.current_round(), ada=0.1, cy=0.1)  # rounds go on
    assert federation.latest().parent == 5


def test_a_collection_spares_a_candidate_that_waits_for_its_verdict(tmp_path: Path, s3_url: str) -> None:
    made = EvaluatedFederation(tmp_path, url=s3_url)
    assert isinstance(made.until_asked()[-1], Asked)
    candidate = made.federation.channel("candidate").manifest
    found = clean(made)
    assert made.federation.objects.is_there(candidate)
    assert_whole(made, found)
    for seed, name in enumerate(made.evaluators):
        assert made.evaluator(name, SignSuite("signs", seed=seed)).look()
    clean(made)  # between the last word and the verdict
    assert isinstance(made.lead()[-1], Published)
    assert len(read_release(made.federation)) > 0
    assert [str(one) for one in Examination(made.federation).run().findings] == []
