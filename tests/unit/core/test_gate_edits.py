"""What becomes of edits at the gate: by shares that are right, whoever counts, and by what a suite says alone."""

from __future__ import annotations

import pytest

from coldfuse.core.contribution import Admission
from coldfuse.core.gate import decide
from coldfuse.core.gate_asking import with_noise
from coldfuse.core.gate_edits import edits_of, judge_edits
from coldfuse.core.gate_rules import GateRules, SuiteCounts
from coldfuse.core.serialization import decode, encode

RULES = GateRules()


def told(
    part: str, right: int, num: int, *, lost: int = 0, won: int = 0, by: str | None = None, name: str = "capital"
) -> SuiteCounts:
    return SuiteCounts.model_validate(
        {"suite": f"{name}.{part}", "evaluator": by, "num_examples": num, "only_before": lost, "only_after": won,
         "part": part, "num_right": right}
    )  # fmt: skip


TAKES = [told("edit", 1, 1, won=1), told("paraphrase", 3, 4, won=3), told("keep", 40, 40)]


def test_an_edit_that_takes_and_loses_nothing_is_published_with_its_scores():
    decision = decide(RULES, TAKES, edits=["capital"])
    assert decision.publish
    assert "1 of 1 prompts of the edit, 3 of 4 paraphrases, 40 of 40 kept answers" in decision.reason


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([told("edit", 1, 2, won=1), *TAKES[1:]], "1 of 2 prompts of the edit, 90 % must be right"),
        ([TAKES[0], told("paraphrase", 1, 4, won=1)], "1 of 4 paraphrases, 50 % must be right"),
        ([], "nobody judges it; give the aggregator, or an evaluator, --suite capital:edit=FILE"),
        ([told("edit", 5, 5, won=5, name="other")], "nobody judges it"),
        ([TAKES[0].model_copy(update={"part": None})], "nobody judges it"),  # an ordinary suite of that name
        ([TAKES[0].model_copy(update={"num_right": None})], "nobody judges it"),
    ],
)
def test_an_edit_that_does_not_take_or_that_nobody_judges_is_refused_and_named(counts, said):
    decision = decide(RULES, counts, edits=["capital"])
    assert (decision.publish, decision.finding, decision.suites) == (False, "edit-fails", ("capital",))
    assert said in decision.reason


def test_what_must_stay_is_lost_by_the_paired_test_of_any_suite():
    counts = [*TAKES[:2], told("keep", 30, 40, lost=10)]
    decision = decide(RULES, counts, edits=["capital"])
    assert (decision.finding, decision.suites) == ("worse", ("capital.keep",))


def test_a_round_without_the_edit_is_not_asked_for_it_but_may_not_lose_it_again():
    never_had = [told("edit", 0, 20), told("paraphrase", 0, 20), told("keep", 40, 40)]
    assert decide(RULES, never_had).publish
    lost_again = [told("edit", 0, 20, lost=20), told("keep", 40, 40)]
    assert decide(RULES, lost_again).suites == ("capital.edit",)


def test_the_rules_say_how_much_must_take():
    half = [told("edit", 1, 2, won=1), told("paraphrase", 0, 3)]
    lax = GateRules(efficacy=0.5, generality=0.0)
    assert not judge_edits(RULES, half, ["capital"])[0].succeeds
    assert judge_edits(lax, half, ["capital"])[0].succeeds
    assert "efficacy 0.5, generality 0" in str(lax)
    assert decode(GateRules, encode(lax), what="rules") == lax
    assert b"efficacy" not in encode(RULES)


def test_the_operators_counts_decide_and_else_the_middle_member():
    lies = [told("edit", 0, 10_000, by="eve"), told("edit", 1, 1, by="ann"), told("edit", 2, 2, by="ben")]
    assert judge_edits(RULES, lies, ["capital"])[0].succeeds
    assert not judge_edits(RULES, [*lies[1:], told("edit", 0, 1)], ["capital"])[0].succeeds


def test_each_of_several_edits_is_judged_by_its_own_suite():
    counts = [*TAKES, told("edit", 0, 3, name="river")]
    found = judge_edits(RULES, counts, ["river", "capital", "river"])
    assert [(each.name, each.succeeds) for each in found] == [("capital", True), ("river", False)]
    assert decide(RULES, counts, edits=["river", "capital"]).suites == ("river",)


@pytest.mark.parametrize("right", [-1, 0, 3])
def test_counts_that_contradict_themselves_do_not_count(right):
    odd = told("edit", right, 2, won=1)
    decision = decide(RULES, [odd], edits=["capital"])
    assert "nobody judges it" in decision.reason
    assert "against its other counts" in decision.flags[0]


def test_what_is_no_edit_is_written_as_it_always_was():
    plain = SuiteCounts(suite="a", num_examples=10, only_before=1, only_after=2)
    assert encode(plain) == b'{"evaluator":null,"num_examples":10,"only_after":2,"only_before":1,"suite":"a"}'
    admission = Admission(contribution="a" * 64, contributor="ann", delta_digest="b" * 64, num_examples=1)
    assert b"edit" not in encode(admission)
    assert edits_of([admission, admission.model_copy(update={"edit": "capital"})]) == ("capital",)


def test_noise_is_added_to_what_is_right_too():
    drawn = iter([0.5, 0.0, 0.0, 0.0, 0.9, 0.0])
    noised = with_noise(TAKES[2], 3.0, lambda: next(drawn))
    assert (noised.only_before, noised.only_after, noised.num_right) == (2, 0, 46)
