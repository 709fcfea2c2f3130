"""Weights by score: what a score is, and bounds that nobody leaves."""

from __future__ import annotations

import math

import pytest

from coldfuse.core.contribution import Admission
from coldfuse.core.gate_rules import SuiteCounts
from coldfuse.core.gating import Weighed
from coldfuse.core.round import Admitted, Closed, fold
from coldfuse.core.scored_weights import weigh, weights_by_score
from coldfuse.errors import FusionError


@pytest.mark.parametrize(
    "scores",
    [[1.0, 1.0], [0.0, 1e-300, 1e300], [-5.0, -1.0], [1e308, 1e308, 1e308, -1e308], [5e-324, 1.0], [0.0], []],
)
def test_no_weight_leaves_its_bounds(scores: list[float]) -> None:
    named = {f"n{index}": score for index, score in enumerate(scores)}
    found = weights_by_score(named, max_ratio=2.0)
    assert found.keys() == named.keys()
    assert all(0.5 <= weight <= 2.0 for weight in found.values())
    assert sorted(named, key=lambda each: (found[each], named[each])) == sorted(named, key=lambda each: named[each])


@pytest.mark.parametrize(("score", "ratio"), [(math.nan, 2.0), (math.inf, 2.0), (1.0, 0.5), (1.0, math.nan)])
def test_weights_of_what_is_no_number_are_refused(score: float, ratio: float) -> None:
    with pytest.raises(FusionError):
        weights_by_score({"a": score}, max_ratio=ratio)


def counts(change: int) -> list[SuiteCounts]:
    return [SuiteCounts(suite="s", num_examples=100, only_before=max(-change, 0), only_after=max(change, 0))]


def test_a_contribution_is_worth_what_the_base_gains_by_it_or_all_lose_without_it() -> None:
    alone = {frozenset("a"): counts(10), frozenset("b"): counts(5), frozenset("c"): counts(-5)}
    found, why = weigh("validation", "abc", alone)
    assert found == {"a": pytest.approx(4 / 3), "b": pytest.approx(2 / 3), "c": 1 / 3}
    assert "-5 points to 10 points" in why
    without = {frozenset("abc"): counts(10), frozenset("bc"): counts(4), frozenset("ac"): counts(7)}
    assert weigh("leave-one-out", "abc", without) == ({}, "no suite has scored them: all count as ever")
    found, _ = weigh("leave-one-out", "abc", without | {frozenset("ab"): counts(12)})
    assert found == {"a": pytest.approx(4 / 3), "b": pytest.approx(2 / 3), "c": 1 / 3}


def test_where_nobody_makes_it_better_or_no_suite_has_looked_all_count_alike() -> None:
    harm = {frozenset(name): counts(-3) for name in "ab"}
    assert weigh("validation", "ab", harm)[0] == {"a": 1.0, "b": 1.0}
    assert weigh("validation", "ab", {frozenset(name): [] for name in "ab"})[0] == {}
    assert weigh("none", "ab", harm)[0] == {}


def test_a_factor_that_an_admission_brings_itself_is_nobodys_word() -> None:
    admission = Admission(contribution="1" * 64, contributor="eve", delta_digest="2" * 64, num_examples=7)
    brought = admission.model_copy(update={"score_weight": 3.0})
    closed = Closed(contributions=("1" * 64,), reason="")
    assert fold([Admitted(admissions=(brought,)), closed]).to_fuse == {"1" * 64: admission}
    weighed = Weighed(weighting="validation", factors={"1" * 64: 0.5}, reason="")
    again = weighed.model_copy(update={"factors": {"1" * 64: 3.0}})  # the first one counts
    state = fold([Admitted(admissions=(brought,)), closed, weighed, again])
    assert state.to_fuse["1" * 64].score_weight == 0.5
