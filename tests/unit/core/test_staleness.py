"""What a contribution counts that was trained on an older base."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from coldfuse.core.federation import RoundRules
from coldfuse.core.staleness import MAX_STALENESS, staleness_weight


@pytest.mark.parametrize(
    ("rule", "weights"),
    [
        ("constant", [1.0, 1.0, 1.0]),
        ("polynomial", [1.0, 0.707107, 0.57735]),
        ("polynomial(a=1)", [1.0, 0.5, 0.333333]),
        ("hinge(a=2, b=1)", [1.0, 1.0, 0.333333]),
    ],
)
def test_weights_are_those_of_the_papers(rule: str, weights: list[float]) -> None:
    assert [staleness_weight(rule, age) for age in range(3)] == weights


@pytest.mark.parametrize(
    "rule", ["constant", "polynomial(a=0)", "polynomial(a=4)", "hinge(a=0,b=0)", "hinge(a=1000, b=0)", "hinge(b=20)"]
)
def test_a_weight_falls_with_the_age_and_never_to_nothing(rule: str) -> None:
    weights = [staleness_weight(rule, age) for age in range(MAX_STALENESS + 1)]
    assert weights[0] == 1.0
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] > 0


def test_a_rule_is_kept_with_every_parameter() -> None:
    assert RoundRules.model_validate({"staleness": " hinge( b = 2 ) "}).staleness == "hinge(a=10, b=2)"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("exponential", r"expected constant, polynomial\(a=0.5\), hinge\(a=10, b=4\)"),
        ("polynomial(b=1)", "polynomial has no 'b=1'"),
        ("polynomial(a=x)", "a is 'x', expected a number"),
        ("polynomial(a=nan)", "a is nan, expected 0 to 4"),
        ("polynomial(a=-1)", "a is -1, expected 0 to 4"),
        ("hinge(a=1e9)", "a is 1e9, expected 0 to 1000"),
        ("polynomial(a=0.5", "expected constant"),
        ("x" * 65, "at most 64"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_there_is(rule: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        RoundRules.model_validate({"staleness": rule})


@pytest.mark.parametrize(("late", "oldest"), [("drop", 0), ("next", 1), ("rebase", 7)])
def test_a_policy_says_how_old_a_base_may_be(late: str, oldest: int) -> None:
    assert RoundRules.model_validate({"late": late, "max_staleness": 7}).oldest == oldest


@pytest.mark.parametrize("number", [0, MAX_STALENESS + 1, 10**400])
def test_no_rule_takes_a_base_of_any_age(number: int) -> None:
    with pytest.raises(ValidationError, match="max_staleness"):
        RoundRules.model_validate({"late": "rebase", "max_staleness": number})
