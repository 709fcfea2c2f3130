"""A gate in daily life: one evaluator alone, and evaluators who are away, in real rounds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from evaluating import EvaluatedFederation
from gated import SignSuite, examiner

from coldfuse.aggregator.soaking import Soaking
from coldfuse.core.federation import ChangeableSettings
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.gating import Asked, Evaluated
from coldfuse.core.round import Abandoned, Published
from coldfuse.core.soak import SoakRule
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import FederationError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.registry.settings import read_settings, write_change
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway
from coldfuse.verification.store import Request, verify_store
from coldfuse.webhooks.events import notices_of

WARN = GateRules(on_one="warn")


def evaluated(events: list[object]) -> Evaluated:
    return next(event for event in events if isinstance(event, Evaluated))


def findings(made: EvaluatedFederation) -> list[str]:
    request = Request(at_s=time.time(), fingerprint=made.keys.fingerprint, executor=ThreadExecutor(1))
    return [str(finding) for finding in verify_store(made.store, request).findings]


def asked(made: EvaluatedFederation, number: int, share: float = 0.1, examines: object = None) -> Asked:
    """Lead a round until its candidate waits for evaluators."""
    made.lead(number, examiner=examines)  # type: ignore[arg-type]
    for place, name in enumerate(made.contributors):
        made.send(name, share, seed=10 * number + place)
    events = made.lead(number, examiner=examines)  # type: ignore[arg-type]
    return next(event for event in events if isinstance(event, Asked))


def test_one_evaluator_is_heard_and_the_finding_is_its(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, evaluators=("eva",), gate=WARN)
    asked(made, 1)
    assert made.evaluator("eva", SignSuite("signs", num_examples=8000)).look()
    events = made.lead()
    assert evaluated(events).decision.finding == "not-worse"
    assert "eva alone can tell" in evaluated(events).decision.reason
    assert isinstance(events[-1], Published)
    assert findings(made) == []


def test_beside_an_operators_few_examples_one_evaluators_count(tmp_path: Path) -> None:
    made, few = EvaluatedFederation(tmp_path, evaluators=("eva",), gate=WARN), examiner(SignSuite("own", 60))
    asked(made, 1, examines=few)
    assert made.evaluator("eva", SignSuite("signs", num_examples=8000)).look()
    events = made.lead(examiner=few)
    assert evaluated(events).decision.finding == "not-worse"
    assert {one.evaluator for one in evaluated(events).counts} == {None, "eva"}
    assert findings(made) == []


def test_a_loss_that_one_alone_sees_is_out_and_told_and_stable_waits_anew(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, evaluators=("eva",), gate=WARN)
    before, etag = read_settings(made.store)
    write_change(made.store, before, etag, ChangeableSettings(soak=SoakRule(rounds=1)), by="ada", after_release=0,
                 signers=made.keys.operators)  # fmt: skip
    soaking, stable = Soaking(), []
    for number, share in ((1, 0.1), (2, -2.0), (3, 0.1), (4, 0.1)):
        asked(made, number, share)
        made.evaluator("eva").look()
        events = made.lead(number)
        assert isinstance(events[-1], Published)
        assert evaluated(events).decision.finding == ("disputed" if number == 2 else "not-worse"), number
        stable.append(soaking.look(made.federation, made.federation.channel("latest")))
    assert stable == [0, None, 2, 3]  # without the warning 1 would have been stable after 2
    told = [one.type for one in notices_of("f", 2, made.federation.journal(2).led(), None)]
    assert told == ["coldfuse.round.closed", "coldfuse.gate.disputed", "coldfuse.release.published"]
    assert findings(made) == []


def test_who_is_away_holds_up_no_more_rounds_than_the_rules_say(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(max_missed=2, wait_s=60.0))
    for number in (1, 2):
        asked(made, number)
        made.evaluator("eva").look()
        assert made.lead(number) == []  # ivo is waited for
        made.now_s += 61.0
        assert isinstance(made.lead(number)[-1], Published)
    third = asked(made, 3)
    assert third.missed == {"ivo": 2}
    waits_for = made.gateway("eva").status().round.waits_for
    assert "0 of 1 evaluator answered" in waits_for
    assert "not waited for: ivo (2 rounds without an answer)" in waits_for
    made.evaluator("eva").look()
    events = made.lead(3)
    assert isinstance(events[-1], Published)  # at once
    assert {one.evaluator for one in evaluated(events).counts} == {"eva"}
    assert findings(made) == []


def test_who_answers_in_time_counts_at_once_and_is_waited_for_again(tmp_path: Path) -> None:
    made = away_for_two_rounds(tmp_path)
    asked(made, 3)
    for name in ("ivo", "eva"):
        made.evaluator(name).look()
    assert {one.evaluator for one in evaluated(made.lead(3)).counts} == {"eva", "ivo"}
    assert asked(made, 4).missed is None
    made.evaluator("eva").look()
    assert made.lead(4) == []  # ivo is waited for


def test_who_comes_back_too_late_does_not_count_and_is_waited_for_once_more(tmp_path: Path) -> None:
    made = away_for_two_rounds(tmp_path)
    asked(made, 3)
    made.evaluator("eva").look()
    counted = evaluated(made.lead(3)).counts
    made.lead(4)  # the round after it is open
    assert not made.evaluator("ivo").look()
    assert "was decided on before it came" in made.said[-1]
    assert evaluated(list(made.federation.journal(3).led().gating.evaluations)).counts == counted  # type: ignore[arg-type]
    assert asked(made, 4).missed == {"ivo": 1}
    made.evaluator("eva").look()
    assert made.lead(4) == []
    made.now_s += 61.0
    made.lead(4)
    assert asked(made, 5).missed == {"ivo": 2}
    made.evaluator("eva").look()
    assert isinstance(made.lead(5)[-1], Published)
    assert findings(made) == []


def test_a_round_that_ends_while_evaluators_are_waited_for_is_left_unanswered_by_nobody(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(max_missed=2, wait_s=60.0))
    asked(made, 1)
    journal = made.federation.journal(1)
    journal.state()
    journal.append(Abandoned(reason="the store was damaged"))
    again = [event for event in made.lead(2) if isinstance(event, Asked)]  # about what the round before has left
    assert [event.missed for event in again] == [None]


def away_for_two_rounds(tmp_path: Path) -> EvaluatedFederation:
    """Make a federation that waits for ivo no more."""
    made = EvaluatedFederation(tmp_path, gate=GateRules(max_missed=2, wait_s=60.0))
    for number in (1, 2):
        asked(made, number)
        made.evaluator("eva").look()
        made.now_s += 61.0
        made.lead(number)
    return made


def test_where_nobody_asked_for_it_all_are_waited_for_always_and_late_words_are_refused(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(wait_s=60.0))
    for number in (1, 2, 3):
        there = asked(made, number)
        assert there.missed is None
        made.evaluator("eva").look()
        assert made.lead(number) == []
        word = made.word("ivo", before=0, after=9) if number == 1 else b""
        made.now_s += 61.0
        made.lead(number)
        if word:
            with pytest.raises(FederationError, match="does not wait for scores"):
                made.gateway("ivo").put_score(word)
            assert not [key for key in made.store.list("scores/").keys if "ivo" in key]
    assert b'"missed"' not in b"".join(made.store.get(key) for key in made.store.list("rounds/").keys)


def test_a_gateway_on_another_machine_says_of_the_gate_what_the_store_says(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path, gate=GateRules(on_one="warn", max_missed=2))
    asked(made, 1)
    here = StoreGateway(made.federation).status()
    with (
        serve_gateway(Federation(made.store, made.federation.settings)) as server,
        GatewayClient(server.address, identity=made.identities["eva"]) as client,
    ):
        there = client.status()
    assert there.gate == here.gate == made.gate
    assert f"gate: {made.gate}" in str(there)
    assert "waits for evaluators: 0 of 2 evaluators answered" in there.round.waits_for
