"""Weights by score: FedCE's numbers, and bounds that nobody leaves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coldfuse.core.gate_rules import SuiteCounts
from coldfuse.core.scored_weights import cosines_to_others, fedce, weigh, weights_by_score
from coldfuse.errors import FusionError


@pytest.mark.parametrize("seed", range(3))
def test_cosines_from_inner_products_are_those_of_the_deltas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    deltas, weights = rng.normal(size=(5, 40)), rng.uniform(0.1, 1, size=5)
    found = cosines_to_others((deltas @ deltas.T).tolist(), weights.tolist())
    for index in range(5):
        rest = weights @ deltas - weights[index] * deltas[index]
        cosine = deltas[index] @ rest / np.linalg.norm(deltas[index]) / np.linalg.norm(rest)
        assert found[index] == pytest.approx(cosine)


def test_a_delta_of_nothing_and_one_without_others_have_no_direction() -> None:
    assert cosines_to_others([[0.0, 0.0], [0.0, 1.0]], [1.0, 1.0]) == (0.0, 0.0)
    assert cosines_to_others([[4.0]], [1.0]) == (0.0,)
    assert cosines_to_others([], []) == ()


@pytest.mark.parametrize("mode", ["plus", "times"])
def test_fedce_scores_add_up_to_one_and_favour_who_is_missed(mode: str) -> None:
    found = fedce({"a": 0.2, "b": 0.2, "c": 0.9}, {"a": 0.5, "b": 0.7, "c": 0.7}, mode=mode)
    assert math.fsum(found.values()) == pytest.approx(1.0)
    assert found["a"] > found["b"] > found["c"]
    assert fedce({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0}, mode=mode) == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("cosines", "scores"),
    [({"a": 1.1}, {"a": 0.5}), ({"a": 0.0}, {"a": math.nan}), ({"a": 0.0}, {"b": 0.0}), ({}, {}), ({"a": 0}, {"a": 2})],
)
def test_fedce_refuses_what_is_out_of_bounds(cosines: dict[str, float], scores: dict[str, float]) -> None:
    with pytest.raises(FusionError, match=r"expected|not of the same"):
        fedce(cosines, scores)


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
