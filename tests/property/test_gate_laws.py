"""What the gate promises over many rounds: how often it stops what is not worse, and what it does not miss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.stats import norm

from coldfuse.core.gate import GateDecision, GateRules, SuiteCounts, decide

ROUNDS = 400


def drawn(
    rng: np.random.Generator, suite: str, num: int, *, lost: float, won: float, who: str | None = None
) -> SuiteCounts:
    before, after, _ = rng.multinomial(num, [lost, won, 1 - lost - won])
    return SuiteCounts(
        suite=suite, evaluator=who, num_examples=num, only_before=int(before), only_after=int(after)
    )  # fmt: skip


def rounds(seed: int, rules: GateRules, answers: Callable[[np.random.Generator], Sequence[SuiteCounts]]) -> list[str]:
    rng = np.random.default_rng(seed)
    found: list[GateDecision] = [decide(rules, answers(rng)) for _ in range(ROUNDS)]
    return [decision.finding for decision in found]


def at_most(share: float) -> float:
    """Return the count of rounds that a share of them exceeds hardly ever."""
    return ROUNDS * share + 3 * math.sqrt(ROUNDS * share * (1 - share))


@pytest.mark.parametrize("margin", [0.0, 0.01])
@pytest.mark.parametrize("num_suites", [1, 6])
@pytest.mark.parametrize("differ", [0.03, 0.2])
def test_no_more_than_alpha_of_the_rounds_in_which_nothing_is_too_bad_are_stopped(
    margin: float, num_suites: int, differ: float
) -> None:
    lost, won = (differ + margin) / 2, (differ - margin) / 2  # just what is accepted, on every suite

    def answers(rng: np.random.Generator) -> list[SuiteCounts]:
        return [drawn(rng, f"s{at}", 300 * (at + 1), lost=lost, won=won) for at in range(num_suites)]

    found = rounds(1, GateRules(margin=margin, alpha=0.1), answers)
    assert found.count("worse") <= at_most(0.1)


def test_that_holds_for_members_too_and_with_noise() -> None:
    def answers(rng: np.random.Generator) -> list[SuiteCounts]:
        return [drawn(rng, f"s{at % 3}", 400, lost=0.05, won=0.05, who=f"m{at}") for at in range(6)]

    for rules in (GateRules(margin=0.0, alpha=0.1, to_stop=1), GateRules(margin=0.0, alpha=0.1, to_stop=1, noise=2.0)):
        assert rounds(2, rules, answers).count("worse") <= at_most(0.1)


@pytest.mark.parametrize("lie", [(1.0, 0.0), (0.3, 0.0)])
def test_a_liar_among_honest_members_stops_no_more_than_alpha(lie: tuple[float, float]) -> None:
    def answers(rng: np.random.Generator) -> list[SuiteCounts]:
        eve = drawn(rng, "s", 500, lost=lie[0], won=lie[1], who="eve")
        return [eve, *(drawn(rng, "s", 500, lost=0.05, won=0.05, who=f"m{at}") for at in range(3))]

    found = rounds(3, GateRules(margin=0.0, alpha=0.1), answers)
    assert found.count("worse") <= at_most(0.1)
    assert found.count("disputed") > ROUNDS / 2


def test_three_points_on_two_thousand_examples_are_seen_as_often_as_theory_says() -> None:
    lost, won, num, alpha = 0.065, 0.035, 2000, 0.05
    deviation = math.sqrt((lost + won - (lost - won) ** 2) / num)
    power = norm.cdf(((lost - won) - norm.isf(alpha) * math.sqrt((lost + won) / num)) / deviation)
    assert power > 0.98

    def answers(rng: np.random.Generator) -> list[SuiteCounts]:
        return [drawn(rng, "s", num, lost=lost, won=won)]

    found = rounds(4, GateRules(margin=0.0, alpha=alpha), answers).count("worse") / ROUNDS
    assert found == pytest.approx(power, abs=0.02)


@pytest.mark.parametrize("num_suites", [1, 4])
@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_what_is_called_visible_is_seen_in_about_four_of_five_rounds(num_suites: int, margin: float) -> None:
    rules = GateRules(margin=margin, resolution=1.0)
    num, differ = 3000 // num_suites, 0.1
    alike = [
        SuiteCounts(suite=f"s{at}", num_examples=num, only_before=round(num * 0.05), only_after=round(num * 0.05))
        for at in range(num_suites)
    ]
    loss = decide(rules, alike).visible
    assert loss is not None

    def answers(rng: np.random.Generator) -> list[SuiteCounts]:
        return [drawn(rng, f"s{at}", num, lost=differ / 2 + loss, won=differ / 2) for at in range(num_suites)]

    assert 0.7 <= rounds(5, rules, answers).count("worse") / ROUNDS <= 0.93


def test_nothing_gets_better_by_being_worse() -> None:
    rules, order = GateRules(), ["worse", "not-worse"]
    found = [
        decide(rules, [SuiteCounts(suite="s", num_examples=2000, only_before=lost, only_after=80)]).finding
        for lost in range(0, 400, 4)
    ]
    assert [order.index(each) for each in found] == sorted((order.index(each) for each in found), reverse=True)
    assert set(found) == set(order)
