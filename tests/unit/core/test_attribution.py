"""Whose contribution did it: the laws of Shapley values, and what is sampled against what is exact."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from coldfuse.core.attribution import (
    MAX_EXACT,
    SpentError,
    Valued,
    attribute,
    gtg_shapley,
    leave_one_out,
    shapley,
)
from coldfuse.errors import FusionError

NAMES = [f"n{index:02}" for index in range(12)]
Worth = Callable[[frozenset[str]], float]


def game(seed: int) -> Worth:
    """Return a value with help, harm and pairs that matter only together."""

    def worth(names: frozenset[str]) -> float:
        alone = math.fsum(math.sin(seed + 3.1 * int(name[1:])) for name in names)
        pairs = math.fsum(math.cos(seed * int(a[1:]) + int(b[1:])) for a, b in itertools.combinations(sorted(names), 2))
        return math.tanh(0.3 * alone + 0.1 * pairs)

    return worth


def by_all_orders(names: list[str], worth: Worth) -> dict[str, float]:
    """Compute Shapley values by their definition: the mean over every order."""
    parts = dict.fromkeys(names, 0.0)
    for order in itertools.permutations(names):
        for place, name in enumerate(order):
            parts[name] += worth(frozenset(order[: place + 1])) - worth(frozenset(order[:place]))
    return {name: part / math.factorial(len(names)) for name, part in parts.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num", [1, 2, 5])
def test_exact_values_are_the_mean_over_every_order(num: int, seed: int) -> None:
    found = shapley(NAMES[:num], game(seed))
    assert found.worth == pytest.approx(by_all_orders(NAMES[:num], game(seed)))
    assert found.num_calls == 2**num


@pytest.mark.parametrize("num", [0, 3, MAX_EXACT, 12])
def test_parts_add_up_to_the_whole(num: int) -> None:
    names, worth = NAMES[:num], game(1)
    found = attribute(names, worth)
    assert found.method == ("shapley" if num <= MAX_EXACT else "gtg-shapley")
    assert math.fsum(found.worth.values()) == pytest.approx(worth(frozenset(names)) - worth(frozenset()), abs=0.001)


@pytest.mark.parametrize("num", [4, 11])
def test_who_does_the_same_gets_the_same_and_who_does_nothing_gets_nothing(num: int) -> None:
    names = NAMES[:num]

    def worth(kept: frozenset[str]) -> float:  # the first two are alike, the third does nothing
        return 0.5 * len(kept & {"n00", "n01"}) + 0.25 * len(kept & set(names[3:])) + 0.1 * ({"n00", "n03"} <= kept)

    def even(kept: frozenset[str]) -> float:
        return worth(kept) + 0.1 * ({"n01", "n03"} <= kept)

    found = attribute(names, even)
    assert found.worth["n00"] == pytest.approx(found.worth["n01"], abs=1e-9 if num <= MAX_EXACT else 0.05)
    assert found.worth["n02"] == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_sampled_values_are_near_the_exact_ones(seed: int) -> None:
    exact, found = shapley(NAMES, game(seed)), gtg_shapley(NAMES, game(seed), seed=seed)
    spread = max(exact.worth.values()) - min(exact.worth.values())
    assert max(abs(exact.worth[name] - part) for name, part in found.worth.items()) < 0.2 * spread
    assert found.num_calls < exact.num_calls
    assert found.is_settled


def test_a_seed_gives_the_same_values_again_and_another_one_others() -> None:
    first = gtg_shapley(NAMES, game(2), seed=7)
    assert gtg_shapley(list(reversed(NAMES)), game(2), seed=7) == first
    assert gtg_shapley(NAMES, game(2), seed=8).worth != first.worth


def test_no_order_goes_on_once_the_rest_is_worth_nothing() -> None:
    found = gtg_shapley(NAMES, lambda names: float(bool(names)))
    assert found.num_calls == 2 + len(NAMES)  # nobody, all, and each alone
    assert found.worth == pytest.approx(dict.fromkeys(NAMES, 1 / 12))


def test_a_round_that_is_worth_next_to_nothing_asks_no_further() -> None:
    found = gtg_shapley(NAMES, lambda names: 0.0005 * len(names))
    assert (set(found.worth.values()), found.num_calls, found.is_settled) == ({0.0}, 2, True)
    assert "worth 0.006, at most 0.01" in found.reason


def test_a_bound_ends_the_sampling_and_is_told() -> None:
    found = gtg_shapley(NAMES, game(0), max_calls=150)
    assert (found.is_settled, found.num_calls) == (False, 150)
    assert "not settled yet" in found.reason
    assert found.worth["n00"] != 0


def test_a_round_of_a_thousand_is_sampled_within_its_bound() -> None:
    names = [f"n{index}" for index in range(1100)]
    found = gtg_shapley(names, lambda kept: float(len(kept)), max_calls=1500)
    assert (found.num_calls, found.is_settled) == (1500, False)
    assert found.worth["n0"] == 1.0


@pytest.mark.parametrize("find", [shapley, leave_one_out, gtg_shapley])
def test_too_small_a_bound_is_an_error_in_a_line(find: Callable[..., object]) -> None:
    with pytest.raises(SpentError, match="2 sets of contributions were valued"):
        find(NAMES[:5], game(0), max_calls=2)


def test_leaving_one_out_values_one_set_more_than_there_are() -> None:
    found = leave_one_out(NAMES, game(3))
    everybody = frozenset(NAMES)
    assert found.num_calls == 13
    assert found.worth["n04"] == game(3)(everybody) - game(3)(everybody - {"n04"})


def test_each_set_is_valued_once() -> None:
    asked: list[frozenset[str]] = []
    shapley(NAMES[:6], lambda names: float(asked.append(names) or len(names)))
    assert len(asked) == len(set(asked)) == 64


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_names_the_set(value: float) -> None:
    with pytest.raises(FusionError, match=r"the model of a, b is worth .*, expected a finite number"):
        Valued(lambda names: value)("ba")
