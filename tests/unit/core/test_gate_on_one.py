"""What one evaluator's word does: it names what is published in any case, and stops and hides nothing."""

from __future__ import annotations

from itertools import product

import pytest

from coldfuse.core.gate import GateRules, SuiteCounts, decide


def counts(who: str | None, num: int, lost: int, won: int, suite: str = "mood") -> SuiteCounts:
    return SuiteCounts(suite=suite, evaluator=who, num_examples=num, only_before=lost, only_after=won)


WARN = GateRules(on_one="warn")
FEW = counts(None, 100, 3, 3)


def test_one_alone_is_never_enough_data_unless_the_rules_let_it_warn() -> None:
    fine = [counts("eva", 2000, 60, 90)]
    assert decide(GateRules(), fine).finding == decide(GateRules(on_one="ignore"), fine).finding == "unsure"
    found = decide(WARN, fine)
    assert (found.finding, found.publish) == ("not-worse", True)
    assert "eva alone can tell, whom nobody seconds" in found.reason
    assert found.visible is not None
    assert found.visible < 0.04
    assert decide(WARN, [counts("eva", 100, 3, 3)]).finding == "unsure"  # it has too few examples


def test_a_loss_that_one_alone_sees_is_disputed_and_out() -> None:
    found = decide(WARN, [counts("eva", 2000, 200, 50)])
    assert (found.finding, found.publish) == ("disputed", True)
    assert "the channel stable begins to wait anew" in found.reason
    assert "stable" not in decide(GateRules(), [counts("eva", 2000, 200, 50)]).reason


def test_beside_the_operators_few_examples_its_examples_count() -> None:
    both = [FEW, counts("eva", 2000, 60, 90)]
    assert decide(GateRules(), both).finding == "unsure"
    assert decide(WARN, both).finding == "not-worse"


def test_what_is_better_by_one_word_is_called_so_and_what_is_not_is_not_stopped_by_it() -> None:
    rules = WARN.model_copy(update={"require": "better"})
    assert decide(rules, [counts("eva", 2000, 20, 120)]).finding == "better"
    assert decide(rules, [counts("eva", 2000, 60, 60)]).publish
    enough = counts(None, 4000, 100, 100)  # the operator's own, on which it is no better
    assert decide(rules, [enough, counts("eva", 2000, 20, 120)]).publish == decide(
        rules.model_copy(update={"on_one": None}), [enough, counts("eva", 2000, 20, 120)]
    ).publish  # fmt: skip


@pytest.mark.parametrize("unsure", ["publish", "keep"])
@pytest.mark.parametrize("require", ["not-worse", "better"])
def test_whatever_one_member_says_nothing_is_stopped_or_let_through_by_it(unsure: str, require: str) -> None:
    """The rule decides as without the option, for any counts of the operator's and of one or two members."""
    numbers = [(2000, 300, 0), (2000, 0, 300), (2000, 60, 60), (50, 2, 2)]
    own = [None, *(counts(None, *each) for each in numbers)]
    members = [counts("eva", *each) for each in numbers]
    others = [None, *(counts("ivo", *each) for each in numbers)]
    for first, eva, ivo in product(own, members, others):
        said = [each for each in (first, eva, ivo) if each is not None]
        asked = {"on_unsure": unsure, "require": require}
        plain, warns = (decide(GateRules.model_validate(asked | {"on_one": one}), said) for one in (None, "warn"))
        assert warns.publish == plain.publish, said
        if len(said) - (first is not None) > 1:  # two can second each other
            assert warns == plain, said
