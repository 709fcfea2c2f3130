"""Whether a fused model is published: what is found, by whom, and what lies change."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from coldfuse.core.gate import MAX_EXAMPLES, GateDecision, GateRules, SuiteCounts, SuiteWeight, decide
from coldfuse.core.serialization import decode, encode
from coldfuse.errors import CodecError


def counts(suite: str, who: str | None, num: int, lost: int, won: int) -> SuiteCounts:
    return SuiteCounts(suite=suite, evaluator=who, num_examples=num, only_before=lost, only_after=won)


def honest(num_members: int, *, suite: str = "sst2", lost: int = 100, won: int = 100) -> list[SuiteCounts]:
    return [counts(suite, f"m{index}", 2000, lost, won) for index in range(num_members)]


HARMED = counts("sst2", None, 2000, 150, 50)
ALIKE = counts("sst2", None, 2000, 100, 100)
FEW = counts("sst2", None, 200, 10, 10)


def test_a_loss_beyond_the_margin_keeps_the_base_and_says_where_and_how_much() -> None:
    decision = decide(GateRules(), [HARMED, counts("mrpc", None, 2000, 90, 95)])
    assert (decision.publish, decision.finding, decision.suites) == (False, "worse", ("sst2",))
    assert "sst2: 150 right only before, 50 only after, of 2,000 examples" in decision.reason


def test_what_is_alike_is_published_with_what_would_have_been_seen() -> None:
    decision = decide(GateRules(), [ALIKE])
    assert (decision.publish, decision.finding, decision.difference) == (True, "not-worse", 0.0)
    assert 0.02 < decision.visible < 0.04


@pytest.mark.parametrize(("instead", "published"), [("publish", True), ("keep", False)])
def test_too_few_examples_are_an_answer_of_their_own(instead: str, published: bool) -> None:
    decision = decide(GateRules.model_validate({"on_unsure": instead}), [FEW])
    assert (decision.finding, decision.publish) == ("unsure", published)
    assert "not enough data" in decision.reason
    assert "a loss below 9.5 points would not be seen" in decision.reason


def test_suites_that_see_nothing_alone_see_it_together() -> None:
    small = [counts(f"s{index}", None, 200, 16, 4) for index in range(10)]
    assert [decide(GateRules(margin=0.02), [one]).finding for one in small] == ["unsure"] * 10
    decision = decide(GateRules(margin=0.02), small)
    assert (decision.finding, decision.suites) == ("worse", ())
    assert "the operator's suites together: 160 right only before" in decision.reason


@pytest.mark.parametrize(
    ("one", "finding"),
    [
        (counts("s", None, 4000, 100, 180), "better"),
        (counts("s", None, 4000, 150, 150), "not-better"),
        (counts("s", None, 200, 10, 10), "unsure"),
        (counts("s", None, 200, 5, 30), "better"),
        (counts("s", None, 4000, 300, 100), "worse"),
    ],
)
def test_better_is_asked_for_where_the_rules_ask(one: SuiteCounts, finding: str) -> None:
    decision = decide(GateRules(require="better"), [one])
    assert decision.finding == finding
    assert decision.publish is (finding in ("better", "unsure"))


@pytest.mark.parametrize("instead", ["publish", "keep"])
def test_silence_is_decided_by_a_rule_of_its_own(instead: str) -> None:
    rules = GateRules.model_validate({"on_silence": instead, "min_evaluators": 3})
    decision = decide(rules, honest(2), num_silent=4)
    assert (decision.finding, decision.publish) == ("silence", instead == "publish")
    assert "counts of 2 of 3 evaluators, 4 evaluators did not answer" in decision.reason
    assert decide(rules, []).finding == "silence"


def test_a_gate_that_is_off_looks_at_nothing() -> None:
    assert decide(GateRules.off(), [HARMED]).finding == "off"


@pytest.mark.parametrize(
    "edge",
    [
        counts("s", None, 1, 0, 0),
        counts("s", None, 1, 1, 0),
        counts("s", None, MAX_EXAMPLES, 0, 0),
        counts("s", None, MAX_EXAMPLES, MAX_EXAMPLES, 0),
        counts("s", None, MAX_EXAMPLES, 0, MAX_EXAMPLES),
        counts("s", None, MAX_EXAMPLES, MAX_EXAMPLES // 2, MAX_EXAMPLES // 2),
        counts("s", None, 5, 5, 0),
    ],
)
@pytest.mark.parametrize("margin", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("require", ["not-worse", "better"])
def test_edges_have_an_answer(edge: SuiteCounts, margin: float, require: str) -> None:
    decision = decide(GateRules.model_validate({"margin": margin, "require": require}), [edge])
    lost_all = edge.only_before == edge.num_examples
    assert decision.finding != "worse" or lost_all
    if edge.only_before == MAX_EXAMPLES:
        assert decision.finding == "worse"


@pytest.mark.parametrize("what", [{"num_examples": 0}, {"num_examples": -5}, {"num_examples": MAX_EXAMPLES + 1}])
@pytest.mark.parametrize("also", [{}, {"only_before": 10**12}, {"suite": "../x"}, {"suite": "x" * 64}])
def test_no_counts_beyond_all_bounds_are_read(what: dict[str, object], also: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SuiteCounts.model_validate(ALIKE.model_dump() | what | also)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400", "2.5", '"7"', "true", "null"])
def test_what_is_no_number_of_examples_is_refused_as_it_arrives(text: str) -> None:
    data = encode(ALIKE).replace(b'"num_examples":2000', f'"num_examples":{text}'.encode())
    with pytest.raises(CodecError):
        decode(SuiteCounts, data, what="counts")


@pytest.mark.parametrize("lie", [(150, 60), (-1, 5), (201, 0), (0, 201)])
@pytest.mark.parametrize("who", ["eve", None])
def test_what_no_examples_can_have_is_not_counted_and_said(lie: tuple[int, int], who: str | None) -> None:
    decision = decide(GateRules(to_stop=1), [counts("s", who, 200, *lie), *honest(3)])
    assert decision.finding == "not-worse"
    assert any("expected parts of them; not counted" in flag for flag in decision.flags)


def test_one_member_alone_stops_nobody_unless_the_operator_says_so() -> None:
    lie = counts("sst2", "eve", 2000, 2000, 0)
    assert decide(GateRules(), [lie]).finding == "disputed"
    assert decide(GateRules(), [lie, *honest(5)]).publish
    decision = decide(GateRules(on_unsure="publish"), [lie, *honest(1)])
    assert (decision.finding, decision.publish) == ("disputed", True)
    assert "only eve sees a loss on sst2" in decision.reason
    assert any("eve on sst2: says all 2,000 examples changed one way" in flag for flag in decision.flags)
    assert decide(GateRules(to_stop=1), [lie]).finding == "worse"


def test_one_member_alone_hides_nothing_from_the_others() -> None:
    lie = counts("sst2", "eve", MAX_EXAMPLES, 0, MAX_EXAMPLES)
    decision = decide(GateRules(), [lie, *honest(4, lost=160, won=60)])
    assert decision.finding == "disputed"
    assert "only eve hides a loss on sst2" in decision.reason
    assert not decide(GateRules(on_unsure="keep"), [lie, *honest(4, lost=160, won=60)]).publish


def test_two_members_stop_what_harms_both_whatever_they_look_at() -> None:
    same = honest(2, lost=200, won=50)
    assert decide(GateRules(), same).finding == "worse"
    own = [counts("a", "ann", 2000, 200, 50), counts("b", "ben", 2000, 200, 50)]
    decision = decide(GateRules(), [*own, *honest(3)])
    assert (decision.finding, set(decision.suites)) == ("worse", {"a", "b"})
    assert decide(GateRules(to_stop=3), own).finding == "disputed"


def test_the_operators_own_suite_needs_nobody() -> None:
    assert decide(GateRules(to_stop=9), [HARMED, *honest(3)]).finding == "worse"


def test_a_thousand_suites_of_one_member_count_nothing() -> None:
    many = [counts(f"s{index}", "eve", 2000, 1000, 0) for index in range(1000)]
    decision = decide(GateRules(), [*many, *honest(3)])
    assert decision == decide(GateRules(), honest(3)).model_copy(update={"flags": decision.flags})
    assert decision.flags == ("eve answers for 1000 suites, at most 16 are taken: none counts",)


def test_many_suites_of_one_member_hide_no_loss_of_others() -> None:
    harmed = counts("sst2", None, 2000, 130, 70)
    many = [counts(f"s{index}", "eve", 2000, 100, 100) for index in range(16)]
    assert decide(GateRules(margin=0.0), [harmed, *many]).finding == "worse"


@pytest.mark.parametrize("num", [2000, MAX_EXAMPLES])
def test_members_hide_nothing_that_the_operators_examples_show(num: int) -> None:
    lies = [counts(suite, who, num, 0, num) for suite in ("sst2", "mrpc") for who in ("eve", "mal", "sid")]
    harmed = counts("sst2", None, 2000, 140, 60)
    decision = decide(GateRules(), [harmed, counts("mrpc", None, 2000, 100, 100), *lies])
    assert (decision.finding, decision.suites) == ("worse", ("sst2",))
    small = [counts(f"s{index}", None, 200, 18, 4) for index in range(10)]
    many = [counts(f"t{index}", who, num, 0, num) for index in range(16) for who in ("eve", "mal", "sid")]
    decision = decide(GateRules(), [*small, *many])
    assert decision.finding == "worse"
    assert "the operator's suites together: 180 right only before" in decision.reason


def test_of_two_members_who_disagree_on_what_is_better_neither_is_believed() -> None:
    rules = GateRules(require="better")
    two = [counts("sst2", "ann", 2000, 40, 160), counts("sst2", "eve", 2000, 105, 100)]
    decision = decide(rules, two)
    assert (decision.finding, decision.publish) == ("disputed", True)
    assert "without eve it is" in decision.reason


def test_who_says_two_things_of_a_suite_is_not_counted_and_who_repeats_itself_is_once() -> None:
    one, other = counts("s", "eve", 2000, 100, 100), counts("s", "eve", 2000, 400, 0)
    decision = decide(GateRules(to_stop=1), [one, other, ALIKE])
    assert decision.flags == ("eve on s: says two things of it; not counted",)
    assert decide(GateRules(), [ALIKE, ALIKE]) == decide(GateRules(), [ALIKE])


def test_of_many_members_nobody_counts_much_more_than_the_median() -> None:
    large = counts("sst2", "eve", MAX_EXAMPLES, 0, 0)
    decision = decide(GateRules(), [large, *honest(4, lost=100, won=160)])
    assert decision.difference == pytest.approx(4 * 60 / (5 + 2) / 2000, rel=1e-3)  # three times the median, and four


def test_one_huge_suite_beside_small_ones_is_told_and_hides_no_large_loss() -> None:
    huge = counts("huge", None, MAX_EXAMPLES, 500_000, 500_000)
    small = [counts(f"s{index}", None, 50, 2, 2) for index in range(9)]
    decision = decide(GateRules(), [huge, *small, counts("s9", None, 50, 30, 0)])
    assert (decision.finding, decision.suites) == ("worse", ("s9",))
    assert any(flag.startswith("huge has 100 % of the examples") for flag in decision.flags)


def test_a_weight_makes_a_suite_matter_less_or_not_at_all() -> None:
    good = counts("good", None, 2000, 50, 150)
    rules = GateRules(weights=(SuiteWeight(suite="sst2", weight=0.0),))
    assert decide(rules, [HARMED, good]).finding == "not-worse"
    half = GateRules(weights=(SuiteWeight(suite="good", weight=0.5),))
    assert decide(half, [ALIKE, good]).difference == pytest.approx(50 / 3000)


def test_nobody_blocks_and_nobody_makes_better_alone() -> None:
    better = honest(5, lost=80, won=180)
    no, yes = counts("sst2", "eve", 2000, 2000, 0), counts("sst2", "eve", 2000, 0, 2000)
    rules = GateRules(require="better")
    assert decide(rules, [no, *better]).finding in ("better", "disputed")
    assert decide(rules, [no, *better]).publish
    assert decide(rules, [yes, *honest(5)]).finding == "not-better"


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_noise_is_allowed_for(scale: float) -> None:
    rules = GateRules(noise=scale, to_stop=1)
    clear = [counts("s", "ann", 2000, 250, 20)]
    assert decide(rules, clear).finding == "worse"
    barely = counts("s", "ann", 2000, 75, 20)
    assert decide(GateRules(to_stop=1), [barely]).finding == "worse"
    assert decide(GateRules(noise=10.0 * scale, to_stop=1), [barely]).finding != "worse"
    assert decide(rules, [counts("s", "ann", 2000, -1, 5)]).flags == ()
    assert decide(rules, [counts("s", "ann", 2000, -1000, 5)]).flags != ()


def test_the_order_of_answers_changes_nothing() -> None:
    answers = [*honest(4, lost=140, won=60), counts("a", "eve", 500, 10, 40), ALIKE.model_copy(update={"suite": "b"})]
    first = decide(GateRules(), answers)
    assert all(decide(GateRules(), [*answers[at:], *answers[:at]]) == first for at in range(len(answers)))
    assert decide(GateRules(), reversed(answers)) == first


def test_a_decision_is_kept_as_json_and_none_contradicts_itself() -> None:
    decision = decide(GateRules(), [HARMED])
    assert decode(GateDecision, encode(decision), what="decision") == decision
    with pytest.raises(ValidationError, match="expected that the base is kept"):
        GateDecision.model_validate(decision.model_dump() | {"publish": True})


def test_reasons_and_flags_are_bounded_whatever_comes() -> None:
    names = [f"{'x' * 50}{index}" for index in range(100)]
    wild = [counts(f"{'s' * 60}{at}", name, 9, 9, 9) for name in names for at in range(5)]
    decision = decide(GateRules(), wild)
    assert decision.finding == "silence"
    assert len(decision.flags) == 16
    assert decision.flags[-1] == "485 more"


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": -0.1}, {"margin": 0.6}, {"margin": float("nan")}, {"alpha": 0.0}, {"alpha": 0.6}, {"noise": -1.0},
        {"alpha": float("inf")}, {"to_stop": 0}, {"min_evaluators": 0}, {"wait_s": 0.0}, {"max_asks": 0},
        {"resolution": 0.0}, {"require": "good"}, {"on_unsure": "wait"}, {"max_suites": 65}, {"per_rounds": 1001},
        {"weights": [{"suite": "a", "weight": 1.0}] * 2}, {"weights": [{"suite": "A", "weight": 1.0}]},
        {"weights": [{"suite": "a", "weight": -1.0}]}, {"weights": [{"suite": "a", "weight": 1e-9}]},
        {"weights": [{"suite": "a", "weight": float("inf")}]},
    ],
)  # fmt: skip
def test_rules_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GateRules.model_validate(wrong)
