"""Who harms: the smallest set without which a model passes."""

from __future__ import annotations

import pytest

from coldfuse.core.attribution import SpentError
from coldfuse.core.harm import who_harms

NAMES = [f"n{index}" for index in range(8)]


def without(*bad: str):
    return (lambda kept: -float(len(kept & set(bad)))), (lambda kept: not kept & set(bad))


def test_what_passes_needs_nobody_out() -> None:
    value, passes = without("nobody")
    found = who_harms(NAMES, value, passes=passes)
    assert (found.harmful, found.is_found, found.num_calls, found.num_asked) == ((), True, 0, 1)


@pytest.mark.parametrize("bad", [("n5",), ("n2", "n6"), ("n0", "n3", "n7")])
def test_all_who_harm_are_found_and_nobody_else(bad: tuple[str, ...]) -> None:
    value, passes = without(*bad)
    found = who_harms(NAMES, value, passes=passes)
    assert (found.harmful, found.is_found) == (bad, True)
    assert found.num_calls <= 64
    assert found.reason.startswith(f"without {', '.join(bad)} it passes")


def test_the_smallest_set_is_taken_and_of_several_the_best() -> None:
    def value(kept: frozenset[str]) -> float:
        return 0.1 * len(kept) - 5.0 * ({"n1", "n2"} <= kept) - 0.5 * ("n2" in kept)

    found = who_harms(NAMES, value, passes=lambda kept: not {"n1", "n2"} <= kept)
    assert found.harmful == ("n2",)


def test_copies_of_one_harm_are_found_though_leaving_one_out_changes_nothing() -> None:
    found = who_harms(
        NAMES, lambda kept: -float(bool(kept & {"n3", "n4"})), passes=lambda kept: not kept & {"n3", "n4"}
    )
    assert found.harmful == ("n3", "n4")


def test_harm_that_the_value_does_not_show_is_found_while_questions_last() -> None:
    found = who_harms(NAMES, lambda kept: 0.0, passes=lambda kept: "n6" not in kept)
    assert (found.harmful, found.num_asked) == (("n6",), 8)
    bounded = who_harms(NAMES, lambda kept: 0.0, passes=lambda kept: "n6" not in kept, max_asks=4)
    assert (bounded.is_found, bounded.harmful, bounded.num_asked) == (False, (), 4)
    assert "4 sets of contributions were evaluated" in bounded.reason


@pytest.mark.parametrize("max_calls", [0, 3, 9, 20])
def test_no_more_sets_are_valued_than_allowed(max_calls: int) -> None:
    calls: list[frozenset[str]] = []
    found = who_harms(
        NAMES, lambda kept: float(calls.append(kept) or 0), passes=lambda kept: False, max_calls=max_calls
    )
    assert len(calls) == found.num_calls <= max_calls
    assert not found.is_found
    assert f"{max_calls} sets of contributions were valued" in found.reason


@pytest.mark.parametrize(("min_kept", "harmful"), [(2, ("n0",)), (3, ())])
def test_so_many_are_left_at_least(min_kept: int, harmful: tuple[str, ...]) -> None:
    value, passes = without("n0")
    found = who_harms(NAMES[:3], value, passes=passes, min_kept=min_kept)
    assert (found.harmful, found.is_found) == (harmful, bool(harmful))


def test_a_gate_that_answers_no_more_ends_the_search() -> None:
    def passes(kept: frozenset[str]) -> bool:
        if len(kept) < 8:
            raise SpentError("the validation set was asked 4 times in this round")
        return False

    found = who_harms(NAMES, lambda kept: 0.0, passes=passes)
    assert (found.is_found, found.reason) == (
        False, "nobody found: the validation set was asked 4 times in this round",
    )  # fmt: skip


def test_where_everything_fails_nobody_is_blamed() -> None:
    found = who_harms(NAMES[:3], lambda kept: 0.0, passes=lambda kept: False)
    assert (found.harmful, found.is_found, found.num_asked) == ((), False, 7)
    assert who_harms([], lambda kept: 0.0, passes=lambda kept: False).harmful == ()
