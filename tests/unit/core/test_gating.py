"""What a journal with a gate adds up to."""

from __future__ import annotations

from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.federation import Terms
from coldfuse.core.gate_rules import GateDecision, GateRules
from coldfuse.core.gating import Asked, Evaluated, Tried
from coldfuse.core.opening import Opened
from coldfuse.core.round import EVENT, Admitted, Closed, Event, Fused, Rejected, RoundState, fold
from coldfuse.core.round_rules import RoundRules
from coldfuse.core.serialization import decode_any, encode

ONE, TWO, MODEL = "1" * 64, "2" * 64, "f" * 64
FIRST, SECOND = "a" * 64, "b" * 64


def admission(digest: str) -> Admission:
    return Admission(contribution=digest, contributor=f"c{digest[0]}", delta_digest=digest, num_examples=1)


def decided(manifest: str, *, publish: bool) -> Evaluated:
    decision = GateDecision(publish=publish, finding="not-worse" if publish else "worse", reason="so")
    return Evaluated(manifest=manifest, counts=(), decision=decision)


def opened(gate: GateRules | None = None) -> Opened:
    terms = Terms(rules=RoundRules(quorum=1), method="mean", gate=gate)
    return Opened(base_release=0, base_digest=MODEL, opened_at_s=0.0, terms=terms)


BEGUN: tuple[Event, ...] = (
    opened(GateRules()), Admitted(admissions=(admission(ONE), admission(TWO))),
    Closed(contributions=(ONE, TWO), reason="quorum"), Fused(manifest=FIRST, model_digest=MODEL),
)  # fmt: skip

DROPPED = Rejected(rejections=(Rejection(contribution=TWO, contributor="c2", reason="harms"),))


def test_what_was_fused_waits_for_its_gate():
    state = fold(BEGUN)
    assert not state.has_passed
    assert fold([*BEGUN, decided(FIRST, publish=True)]).has_passed
    assert not fold([*BEGUN, decided(FIRST, publish=False)]).has_passed
    assert not fold([*BEGUN, decided(SECOND, publish=True)]).has_passed


def test_a_round_without_a_gate_waits_for_nothing():
    assert fold([opened(), *BEGUN[1:]]).has_passed


def test_once_what_harms_is_rejected_the_candidate_is_none_any_more_and_the_next_one_counts():
    dropped = fold([*BEGUN, decided(FIRST, publish=False), DROPPED])
    assert dropped.fused is None
    assert dropped.admitted.keys() == {ONE}
    again = dropped.after([Fused(manifest=SECOND, model_digest=MODEL)])
    assert again.fused is not None
    assert again.fused.manifest == SECOND
    assert not again.has_passed


def test_the_first_decision_on_a_candidate_counts():
    state = fold([*BEGUN, decided(FIRST, publish=False), decided(FIRST, publish=True)])
    assert state.gating.has_failed(FIRST)


def test_a_rejection_without_a_refusal_leaves_the_candidate():
    assert fold([*BEGUN, DROPPED]).fused is not None


def test_what_is_folded_at_once_is_what_is_folded_entry_by_entry():
    events = [
        *BEGUN, Tried(contributions=(ONE, TWO), counts=()), Asked(manifest=FIRST, evaluators=("eva",)),
        decided(FIRST, publish=False), Asked(manifest=SECOND, evaluators=("eva",), contributions=(ONE,)),
        Tried(contributions=(ONE,), counts=(), manifest=SECOND, words=(MODEL,)), DROPPED,
    ]  # fmt: skip
    stepwise = RoundState()
    for event in events:
        stepwise = stepwise.after([event])
    assert stepwise == fold(events)
    assert stepwise.gating.num_asked == 2
    assert stepwise.candidates == (SECOND,)


def test_entries_of_a_gate_are_written_and_read():
    for event in (decided(FIRST, publish=True), Asked(manifest=FIRST, evaluators=("eva",))):
        assert decode_any(EVENT, encode(event), what="entry") == event
    assert b"refused_gate" not in encode(opened())
