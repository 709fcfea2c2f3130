"""Evaluators with private examples: they are asked, waited for, heard, and nobody can lie, flood or hush a round."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluating import EvaluatedFederation
from gated import SignSuite, examiner, lesson
from tiny_rounds import make_contribution, receive

from coldfuse.core.gate_rules import GateRules
from coldfuse.core.gating import Asked, Evaluated
from coldfuse.core.round import Abandoned, Published, Rejected
from coldfuse.core.serialization import encode
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import CodecError, ConflictError, FederationError, NotAllowedError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.objects import object_key
from coldfuse.trust.score import MAX_WORDS, read_score
from coldfuse.verification.store import Request, verify_store


def evaluated(events: list[object]) -> Evaluated:
    return next(event for event in events if isinstance(event, Evaluated))


def findings(made: EvaluatedFederation) -> list[str]:
    request = Request(at_s=time.time(), fingerprint=made.keys.fingerprint, executor=ThreadExecutor(1))
    return [str(finding) for finding in verify_store(made.store, request).findings]


@pytest.fixture
def made(tmp_path: Path) -> EvaluatedFederation:
    return EvaluatedFederation(tmp_path)


def test_a_candidate_waits_until_all_have_answered_and_is_published_by_their_counts(made: EvaluatedFederation) -> None:
    asked = made.until_asked()[-1]
    assert isinstance(asked, Asked)
    assert asked.evaluators == ("eva", "ivo")
    assert made.federation.channel("candidate").manifest == asked.manifest
    assert made.evaluator("eva").look()
    assert made.lead() == []  # it waits for the other one
    status = made.gateway("eva").status()
    assert "waits for evaluators: 1 of 2 evaluators answered" in status.round.waits_for
    assert made.evaluator("ivo", SignSuite("signs", seed=4)).look()
    events = made.lead()
    assert [type(event) for event in events] == [Evaluated, Published]
    assert {one.evaluator for one in evaluated(events).counts} == {"eva", "ivo"}
    assert findings(made) == []


def test_what_only_evaluators_notice_is_found_by_asking_them_about_the_others(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, quorum=2)
    made.lead()
    sent = made.send_all(ada=0.3, ben=-3.0)
    made.send("cy", 0.25, seed=7)
    made.lead()
    made.lead()
    events = until_over(made)
    rejected = [each for event in events if isinstance(event, Rejected) for each in event.rejections]
    assert [each.contribution for each in rejected] == [sent["ben"]]
    assert "evaluators find harm" in rejected[0].reason
    assert [event.decision.publish for event in events if isinstance(event, Evaluated)] == [False, True]
    assert {one.contributor for one in made.federation.latest().contributions} == {"ada", "cy"}
    assert findings(made) == []


def test_what_evaluators_notice_and_may_not_be_asked_about_again_keeps_the_base(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(max_asks=1))
    made.until_asked(ada=0.3, ben=0.2, cy=-3.0)
    events = until_over(made)
    assert not evaluated(events).decision.publish
    assert isinstance(events[-1], Abandoned)
    assert "worse by more than 1 point on signs" in events[-1].reason
    assert made.federation.latest().release == 0
    assert findings(made) == []


def test_who_has_few_examples_names_who_harms_where_so_large_a_loss_would_be_seen(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(to_stop=1), quorum=2, evaluators=("eva",))
    made.lead()
    sent = made.send_all(ada=0.3, ben=-3.0, cy=0.25)
    made.lead()
    few, events = made.evaluator("eva", SignSuite("signs", num_examples=400)), []
    while not any(isinstance(event, Published | Abandoned) for event in events):
        assert few.look()
        events += made.lead()
    failed, passed = (event.decision for event in events if isinstance(event, Evaluated))
    assert (failed.finding, passed.finding) == ("worse", "unsure")
    assert passed.visible <= -failed.difference
    assert made.federation.journal(1).state().rejected.keys() == {sent["ben"]}
    assert {one.contributor for one in made.federation.latest().contributions} == {"ada", "cy"}


class Blind(SignSuite):
    """A suite that notices nothing."""

    def right(self, matrix: np.ndarray) -> np.ndarray:
        return np.ones(self.num_examples)


def test_nobody_is_left_out_because_those_who_saw_the_harm_did_not_answer_again(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(wait_s=60.0), quorum=2)
    blind = examiner(Blind("blind"))
    made.lead(examiner=blind)
    long = {**lesson(0.3), "embeddings.weight": np.full((50, 8), 100.0, np.float32)}
    manifest = make_contribution(made.federation, "ada", long)
    signature = made.identities["ada"].sign(encode(manifest), "contribution")
    innocent = receive(made.federation, manifest, at_s=time.time(), signature=signature)
    made.send("ben", -3.0, seed=1)
    made.send("cy", 0.25, seed=2)
    made.lead(examiner=blind)
    for seed, name in enumerate(made.evaluators):
        assert made.evaluator(name, SignSuite("signs", seed=seed)).look()
    events = made.lead(examiner=blind)
    assert isinstance(events[-1], Asked)  # about the others without the longest, which is not the one that harms
    assert innocent not in events[-1].contributions
    for late_s in (61.0, 200.0, 300.0):  # and from now on nobody answers any more
        made.now_s = late_s
        events += made.lead(examiner=blind)
    assert not [event for event in events if isinstance(event, Rejected | Published)]
    assert isinstance(events[-1], Abandoned)
    assert made.federation.latest().release == 0
    assert findings(made) == []


def until_over(made: EvaluatedFederation) -> list[object]:
    """Have all evaluators answer whatever they are asked until the round is over."""
    events: list[object] = []
    evaluators = [made.evaluator(name, SignSuite("signs", seed=seed)) for seed, name in enumerate(made.evaluators)]
    for _ in range(10):
        for evaluator in evaluators:
            evaluator.look()
        new = made.lead()
        events += new
        if any(isinstance(event, Published | Abandoned) for event in new):
            return events
    raise AssertionError(f"the round does not end: {events}")


def test_who_never_answers_is_waited_for_no_longer_than_the_rules_say(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(wait_s=60.0))
    made.until_asked()
    made.evaluator("eva").look()
    made.now_s = 59.0
    assert made.lead() == []
    made.now_s = 61.0
    events = made.lead()
    assert {one.evaluator for one in evaluated(events).counts} == {"eva"}
    assert isinstance(events[-1], Published)


@pytest.mark.parametrize("what", ["publish", "keep"])
def test_silence_of_all_does_what_the_rules_say(tmp_path: Path, what: str) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(wait_s=60.0, on_silence=what))  # type: ignore[arg-type]
    made.until_asked()
    made.now_s = 61.0
    events = made.lead()
    assert evaluated(events).decision.finding == "silence"
    assert isinstance(events[-1], Published if what == "publish" else Abandoned)


def test_one_who_lies_stops_nothing_and_is_named(made: EvaluatedFederation) -> None:
    made.until_asked()
    made.evaluator("ivo").look()
    made.gateway("eva").put_score(made.word("eva", before=1500, after=0))
    events = made.lead()
    found = evaluated(events).decision
    assert found.publish
    assert "eva" in found.reason


def test_the_operators_own_suites_are_asked_first_and_spare_the_evaluators(made: EvaluatedFederation) -> None:
    made.lead(examiner=examiner())
    sent = made.send_all(ada=0.3, ben=0.2, cy=-3.0)
    events = made.lead(examiner=examiner())
    assert not any(isinstance(event, Asked) for event in events)
    assert made.federation.journal(1).led().rejected.keys() == {sent["cy"]}


def test_operators_and_evaluators_are_heard_together(made: EvaluatedFederation) -> None:
    made.lead(examiner=examiner())
    made.send_all(ada=0.3, ben=0.2, cy=0.25)
    made.lead(examiner=examiner())
    for name in ("eva", "ivo"):
        made.evaluator(name).look()
    events = made.lead(examiner=examiner())
    assert {one.evaluator for one in evaluated(events).counts} == {None, "eva", "ivo"}
    assert findings(made) == []


def test_whoever_is_killed_after_scoring_hands_in_the_very_same_counts(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(noise=5.0))
    made.until_asked()
    first = made.evaluator("eva", over=_Dying(made.federation))
    with pytest.raises(KeyboardInterrupt):
        first.look()
    manifest = made.federation.channel("candidate").manifest
    kept = first.folder.answer(manifest)
    assert made.evaluator("eva").look()
    assert made.store.get(f"scores/00001/{manifest}/eva.json") == kept


class _Dying(StoreGateway):
    """Ends the process that hands in a word."""

    def put_score(self, envelope: bytes) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("trouble", ["arrives damaged", "has made way"])
def test_an_evaluator_outlives_a_candidate_that_it_cannot_bring(made: EvaluatedFederation, trouble: str) -> None:
    made.until_asked()

    class Troubled(StoreGateway):
        num_asked = 0

        def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
            self.num_asked += 1
            if self.num_asked == 1 and trouble == "has made way":
                raise FederationError(f"part {digest[:12]} belongs to no candidate that waits")
            super().read_into(release, digest, buffer, start)
            if self.num_asked == 1:
                buffer[0] ^= 1

    evaluator = made.evaluator("eva", over=Troubled(made.federation))
    assert not evaluator.look()
    assert "cannot be scored now" in made.said[-1]
    assert evaluator.look()  # and the next time it can


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_kept_answer_that_the_disk_has_damaged_is_made_anew(made: EvaluatedFederation, damage: str) -> None:
    made.until_asked()
    with pytest.raises(KeyboardInterrupt):
        made.evaluator("eva", over=_Dying(made.federation)).look()
    [path] = (tmp := made.path / "eva-evaluator" / "answers").iterdir()
    data = bytearray(path.read_bytes())
    data[data.index(b"payload") + 40] ^= 1
    path.write_bytes({"flipped": bytes(data), "cut": bytes(data[:100]), "empty": b""}[damage])
    assert made.evaluator("eva").look()
    assert any("is scored again" in line for line in made.said)
    assert len(list(tmp.iterdir())) == 1


def test_a_suite_is_asked_no_more_often_than_the_rules_allow(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(max_asks=1, per_rounds=2, wait_s=60.0, on_silence="keep"))
    made.until_asked()
    made.evaluator("eva").look()
    made.evaluator("ivo").look()
    assert isinstance(made.lead()[-1], Published)
    made.lead(2)
    made.send_all(ada=0.1, ben=0.1, cy=0.1)
    events = made.lead(2)
    assert not any(isinstance(event, Asked) for event in events)
    assert isinstance(events[-1], Abandoned)


def test_a_word_is_taken_once_and_a_newer_one_takes_its_place_until_it_was_decided(made: EvaluatedFederation) -> None:
    made.until_asked()
    gateway = made.gateway("eva")
    first, second = made.word("eva", before=3, after=9), made.word("eva", before=2, after=9, number=1)
    for word in (first, first, second, second):
        gateway.put_score(word)
    for refused in (first, made.word("eva", before=1, after=1, number=3)):
        with pytest.raises(ConflictError, match="has said 2 words"):
            gateway.put_score(refused)
    made.gateway("ivo").put_score(made.word("ivo", before=2, after=9))
    late = made.word("eva", before=0, after=0, number=2)
    events = made.lead()
    assert {one.only_before for one in evaluated(events).counts} == {2}
    with pytest.raises(FederationError, match="does not wait for scores"):
        gateway.put_score(late)


@pytest.mark.parametrize(
    ("different", "error"),
    [
        ({"member": "ivo"}, NotAllowedError),
        ({"federation": "0" * 64}, NotAllowedError),
        ({"manifest": "0" * 64}, FederationError),
        ({"round": 2}, FederationError),
        ({"base_digest": "0" * 64}, FederationError),
    ],
)
def test_a_word_about_something_else_is_refused(
    made: EvaluatedFederation, different: dict[str, object], error: type[Exception]
) -> None:
    made.until_asked()
    with pytest.raises(error):
        made.gateway("eva").put_score(made.word("eva", before=1, after=1, **different))
    assert not list(made.store.list("scores/").keys)


def test_contributors_and_strangers_say_nothing_of_candidates(made: EvaluatedFederation) -> None:
    made.until_asked()
    with pytest.raises(NotAllowedError):
        made.gateway("ada").put_score(made.word("ada", before=1500, after=0))
    with pytest.raises(CodecError):
        made.gateway("eva").put_score(b"x" * (1 << 17))
    with pytest.raises(CodecError):
        made.gateway("eva").put_score(b"{}")


def test_a_flood_of_words_leaves_one_key_a_member(made: EvaluatedFederation) -> None:
    made.until_asked()
    gateway, refused = made.gateway("eva"), 0
    for number in [*range(MAX_WORDS), *range(MAX_WORDS)] * 3:
        try:
            gateway.put_score(made.word("eva", before=number, after=1, number=number))
        except (ConflictError, CodecError):
            refused += 1
    assert refused > 0
    keys = made.store.list("scores/").keys
    assert len(keys) == 1
    view = made.federation.trust
    assert view is not None
    assert read_score(view, made.store.get(keys[0]), now_s=time.time())[0].number == MAX_WORDS - 1


def test_who_was_revoked_is_neither_waited_for_nor_heard(made: EvaluatedFederation) -> None:
    made.until_asked()
    made.gateway("ivo").put_score(made.word("ivo", before=1900, after=0))
    made.evaluator("eva").look()
    made.revoke("ivo", since_s=0.0)
    events = made.lead()
    assert {one.evaluator for one in evaluated(events).counts} == {"eva"}


def test_verify_finds_counts_that_nobody_has_signed(made: EvaluatedFederation) -> None:
    made.until_asked()
    for name in ("eva", "ivo"):
        made.evaluator(name).look()
    word = evaluated(made.lead()).words[0]
    assert findings(made) == []
    made.store.delete(object_key(word))
    assert any("signed counts, by which a gate has decided" in finding for finding in findings(made))
    assert any("has not counted what eva has signed" in finding for finding in findings(made))


def test_a_candidate_can_be_read_by_who_evaluates_and_by_nobody_else(
    made: EvaluatedFederation, clients: object
) -> None:
    made.until_asked()
    eva, ada = (clients(made, name) for name in ("eva", "ada"))  # type: ignore[operator]
    manifest = eva.release("candidate")
    part = next(blob.parts[0] for name, blob in manifest.files.items() if name.endswith(".safetensors"))
    buffer = memoryview(bytearray(part.size_bytes))
    eva.read_into(manifest.release, part.digest, buffer)
    with pytest.raises(NotAllowedError):
        ada.release("candidate")
    with pytest.raises(NotAllowedError):
        ada.read_into(manifest.release, part.digest, buffer)
    assert made.evaluator("eva", over=eva.unverified).look()  # over the wire, too


@pytest.fixture
def clients() -> Iterator[object]:
    from coldfuse.consumer.trusted import TrustedGateway
    from coldfuse.registry.federation import Federation
    from coldfuse.transport.client import GatewayClient
    from coldfuse.transport.server import serve_gateway

    opened: list[object] = []
    running: list[object] = []

    def connect(made: EvaluatedFederation, name: str) -> TrustedGateway:
        if not running:
            running.append(serve_gateway(Federation(made.store, made.federation.settings)))
            running[0].__enter__()  # type: ignore[attr-defined]
        client = GatewayClient(running[0].address, identity=made.identities[name])  # type: ignore[attr-defined]
        opened.append(client)
        return TrustedGateway(client, anchor=made.keys.fingerprint, identity=made.identities[name])

    yield connect
    for client in opened:
        client.close()  # type: ignore[attr-defined]
    for server in running:
        server.__exit__(None, None, None)  # type: ignore[attr-defined]
