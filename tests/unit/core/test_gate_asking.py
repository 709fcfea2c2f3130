"""How often evaluators are asked, how long they are waited for, and the noise of their answers."""

from __future__ import annotations

import math
import random
from statistics import fmean, pvariance

import pytest

from coldfuse.core.gate_asking import may_ask, still_waits, with_noise
from coldfuse.core.gate_counts import noise_slack
from coldfuse.core.gate_rules import GateRules, SuiteCounts

COUNTS = SuiteCounts(suite="s", evaluator="ann", num_examples=1000, only_before=40, only_after=60)


def test_a_set_is_asked_so_often_in_so_many_rounds_and_then_again() -> None:
    rules = GateRules(max_asks=2, per_rounds=3)
    asked: list[int] = []
    for number in (1, 1, 1, 2, 3, 4, 4, 4, 5, 6, 7):
        if may_ask(rules, asked, round_number=number)[0]:
            asked.append(number)
    assert asked == [1, 1, 4, 4, 7]
    assert may_ask(rules, [7, 5, 7, 9], round_number=7) == (False, "asked 3 times of 2 times in 3 rounds")


@pytest.mark.parametrize(
    ("answered", "enrolled", "age_s", "waits"),
    [(0, 0, 0.0, False), (2, 2, 0.0, False), (1, 2, 599.0, True), (1, 2, 600.0, False), (0, 3, math.nan, False)],
)
def test_evaluators_are_waited_for_until_all_have_answered_or_time_is_up(
    answered: int, enrolled: int, age_s: float, waits: bool
) -> None:
    found, reason = still_waits(GateRules(wait_s=600.0), answered=answered, enrolled=enrolled, age_s=age_s)
    assert found is waits
    assert f"{answered} of {enrolled} evaluator" in reason


def test_without_noise_counts_stay_and_with_it_they_are_right_on_average() -> None:
    draw = random.Random(5).random
    assert with_noise(COUNTS, 0.0, draw) is COUNTS
    drawn = [with_noise(COUNTS, 3.0, draw) for _ in range(4000)]
    share = math.exp(-1 / 3.0)
    variance = 2 * share / (1 - share) ** 2
    for field, true in (("only_before", 40), ("only_after", 60)):
        found = [getattr(each, field) for each in drawn]
        assert fmean(found) == pytest.approx(true, abs=4 * math.sqrt(variance / 4000))
        assert pvariance(found) == pytest.approx(variance, rel=0.15)
    assert {each.num_examples for each in drawn} == {1000}


@pytest.mark.parametrize("num", [2, 8, 40])
@pytest.mark.parametrize("chance", [0.05, 0.001])
def test_noise_exceeds_what_is_allowed_for_it_no_more_often_than_said(num: int, chance: float) -> None:
    draw = random.Random(num).random
    zero = COUNTS.model_copy(update={"only_before": 0, "only_after": 0})
    slack, beyond = noise_slack(2.0, num, chance), 0
    for _ in range(3000):
        drawn = [with_noise(zero, 2.0, draw) for _ in range(num // 2)]
        beyond += sum(each.only_before - each.only_after for each in drawn) > slack
    assert beyond <= 3000 * chance + 3 * math.sqrt(3000 * chance)
