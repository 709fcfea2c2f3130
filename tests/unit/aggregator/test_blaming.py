"""Who harms, from the counts of models of some of the contributions, asked for a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coldfuse.aggregator.blaming import MAX_SEARCHED, Blame, Suspects, blame, fails, mean_change
from coldfuse.core.gate_rules import GateRules, SuiteCounts

NUM = 2000


def counts(change: float, *, suite: str = "mood") -> tuple[SuiteCounts, ...]:
    """Counts of a model that gets so much more right than the base."""
    lost, won = (round(max(sign * change, 0) * NUM) for sign in (-1, 1))
    return (SuiteCounts(suite=suite, num_examples=NUM, only_before=lost, only_after=won),)


def search(
    names: str, change: Callable[[frozenset[str]], float], *, rules: GateRules | None = None
) -> tuple[Blame, int]:
    """Search as a gate does: score what is asked for, begin anew; return what was found, and what it took."""
    tried: dict[frozenset[str], tuple[SuiteCounts, ...]] = {}
    for _ in range(2000):
        whole = counts(change(frozenset(names)))
        found = blame(Suspects(rules=rules or GateRules(), whole=whole, tried=dict(tried), contributions=tuple(names)))
        if isinstance(found, Blame):
            return found, len(tried)
        assert found[0] not in tried
        tried |= {subset: counts(change(subset)) for subset in found[:2]}
    raise AssertionError("the search does not end")


def mean_of(values: dict[str, float]) -> Callable[[frozenset[str]], float]:
    return lambda kept: sum(values[name] for name in kept) / max(len(kept), 1)


def test_the_one_without_whom_the_rest_passes_is_named_after_as_many_models_as_there_are():
    found, num_tried = search("abce", mean_of({"a": 0.1, "b": 0.1, "c": 0.1, "e": -0.9}))
    assert found.harmful.keys() == {"e"}
    assert num_tried == 4
    assert "without it by" in found.harmful["e"]


def test_two_who_harm_only_together_are_named_together():
    def change(kept: frozenset[str]) -> float:
        return -0.2 if {"c", "d"} <= kept else 0.05

    found, _ = search("abcd", change)
    assert len(found.harmful) == 1  # without one of them, whichever, the rest passes
    assert found.harmful.keys() <= {"c", "d"}


def test_all_are_named_where_all_harm():
    found, _ = search("abc", mean_of({"a": -0.2, "b": -0.3, "c": -0.1}))
    assert found.harmful.keys() == {"a", "b", "c"}


def test_nobody_is_named_where_better_is_asked_for_and_nobody_harms():
    found, _ = search("ab", lambda kept: 0.0, rules=GateRules(require="better"))
    assert not found.harmful
    assert "nobody does harm" in found.reason


def test_of_more_than_can_be_scored_nobody_is_looked_for():
    names = tuple(f"n{number}" for number in range(MAX_SEARCHED))
    found = blame(Suspects(rules=GateRules(), whole=counts(-0.2), tried={}, contributions=names))
    assert isinstance(found, Blame)
    assert not found.harmful


def test_models_of_one_size_are_asked_for_together():
    found = blame(Suspects(rules=GateRules(), whole=counts(-0.2), tried={}, contributions=tuple("abc")))
    assert isinstance(found, list)
    assert set(found) == {frozenset("ab"), frozenset("ac"), frozenset("bc")}


@pytest.mark.parametrize(("change", "expected"), [(-0.2, True), (-0.005, False), (0.2, False)])
def test_the_operators_suites_fail_a_model_by_themselves(change: float, expected: bool):
    rules = GateRules(min_evaluators=5, on_silence="publish")
    assert fails(rules, counts(change)) is expected


def test_the_mean_change_is_over_suites_and_not_over_examples():
    both = (
        SuiteCounts(suite="a", num_examples=10, only_before=5, only_after=0),
        SuiteCounts(suite="b", num_examples=1000, only_before=0, only_after=100),
    )
    assert mean_change(both) == pytest.approx(-0.2)
