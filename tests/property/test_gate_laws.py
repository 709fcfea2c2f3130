"""What the gate promises over many rounds: how often it stops what is not worse, and what it does not miss."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.stats import norm

from coldfuse.core.gate import MAX_EXAMPLES, GateDecision, GateRules, SuiteCounts, decide
from coldfuse.core.serialization import decode, encode

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


def wild(rng: random.Random) -> SuiteCounts:
    num = rng.choice([1, 2, 3, 50, 2000, MAX_EXAMPLES])
    some = (rng.randint(0, num), rng.randint(0, num))
    before, after = rng.choice([(0, 0), (num, 0), (0, num), (num // 2, num // 2), (-3, 4), (num, num), some, some])
    return SuiteCounts(
        suite=rng.choice("abcd"), evaluator=rng.choice([None, *"xyzu"]), num_examples=num, only_before=before,
        only_after=after,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(300))
def test_whatever_comes_there_is_one_answer_in_any_order(seed: int) -> None:
    rng = random.Random(seed)
    weights = [{"suite": suite, "weight": rng.choice([0.0, 0.001, 1000.0])} for suite in rng.sample("abcd", 2)]
    rules = GateRules.model_validate({
        "require": rng.choice(["not-worse", "better"]), "margin": rng.choice([0.0, 1e-9, 0.01, 0.5]),
        "alpha": rng.choice([1e-6, 0.05, 0.5]), "noise": rng.choice([0.0, 0.001, 2.0, 10_000.0]),
        "to_stop": rng.choice([1, 2, 3, 32]), "weights": weights, "resolution": rng.choice([1e-9, 0.03, 1.0]),
    })  # fmt: skip
    answers = [wild(rng) for _ in range(rng.randint(0, 9))]
    decision = decide(rules, answers)
    rng.shuffle(answers)
    assert decide(rules, answers) == decision
    assert decode(GateDecision, encode(decision), what="decision") == decision
    assert decision.publish or decision.finding in ("worse", "not-better")
