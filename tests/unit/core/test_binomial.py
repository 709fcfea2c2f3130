"""Tails of the binomial distribution against scipy's, and what tests of several questions add."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binom, binomtest

from coldfuse.core.binomial import MAX_TRIALS, fewest_to_reject, least_share, upper_tail, weighted_holm


@pytest.mark.parametrize("trials", [0, 1, 2, 7, 100, 1_001, 65_536, MAX_TRIALS])
@pytest.mark.parametrize("share", [0.5, 0.501, 0.01, 0.93])
def test_tails_are_those_of_scipy(trials: int, share: float) -> None:
    middle, step = round(trials * share), max(1, round(math.sqrt(trials * share * (1 - share))))
    for successes in {0, 1, trials, *(middle + at * step for at in (-8, -3, -1, 0, 1, 2, 5, 8, 30))}:
        if 0 <= successes <= trials:
            expected = float(binom.sf(successes - 1, trials, share))
            assert upper_tail(successes, trials, share) == pytest.approx(expected, rel=1e-6, abs=1e-290)


@pytest.mark.parametrize(("lost", "differ"), [(0, 0), (5, 5), (60, 100), (501_500, 1_000_000)])
def test_half_is_the_exact_paired_test(lost: int, differ: int) -> None:
    expected = binomtest(lost, differ, alternative="greater").pvalue if differ else 1.0
    assert upper_tail(lost, differ) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("trials", [1, 10, 999, 1_000_000])
def test_a_tail_falls_with_the_successes_and_rises_with_the_share(trials: int) -> None:
    counts = sorted({round(trials * part / 50) for part in range(51)})
    tails = [upper_tail(count, trials, 0.5) for count in counts]
    assert tails == sorted(tails, reverse=True)
    assert tails[0] == 1.0
    rising = [upper_tail(counts[len(counts) // 2], trials, share / 20) for share in range(21)]
    assert rising == sorted(rising)
    assert all(0 <= tail <= 1 for tail in (*tails, *rising))


def test_edges_are_no_errors_and_nonsense_is() -> None:
    assert upper_tail(-3, 10, 0.5) == upper_tail(3, 10, 1.5) == upper_tail(0, 10, 0.0) == 1.0
    assert upper_tail(11, 10, 0.5) == upper_tail(1, 10, -1.0) == upper_tail(11, 10, 1.0) == 0.0
    for trials, share in ((MAX_TRIALS + 1, 0.5), (-1, 0.5), (10, math.nan)):
        with pytest.raises(ValueError, match="expected 0 to"):
            upper_tail(1, trials, share)


@pytest.mark.parametrize("chance", [0.5, 0.05, 1e-6])
@pytest.mark.parametrize(("successes", "trials"), [(1, 1), (1, 50), (10, 10), (200, 2000), (9_999_999, 10_000_000)])
def test_a_lower_limit_is_wrong_no_more_often_than_it_says(successes: int, trials: int, chance: float) -> None:
    least = least_share(successes, trials, chance)
    assert 0 <= least <= successes / trials
    assert binom.sf(successes - 1, trials, least) <= chance * (1 + 1e-9)


def test_so_few_examples_can_show_a_loss() -> None:
    for level in (0.5, 0.05, 0.025, 1e-6):
        assert upper_tail(fewest_to_reject(level), fewest_to_reject(level)) <= level


def test_with_equal_weights_holm_is_holm() -> None:
    p_values = [0.04, 0.001, 0.2, 0.013, 0.013]
    order = sorted(p_values)
    adjusted = [max(min(1.0, (5 - place) * p) for place, p in enumerate(order[: order.index(q) + 1])) for q in p_values]
    assert weighted_holm(p_values, [3.0] * 5) == pytest.approx(adjusted)


def test_weights_share_alpha_and_one_without_any_is_never_claimed() -> None:
    assert weighted_holm([0.01, 0.01], [9.0, 1.0]) == pytest.approx([0.1 / 9, 0.0111111], rel=0.12)
    assert weighted_holm([0.0, 0.0, 1.0], [0.0, 1.0, 1.0]) == [1.0, 0.0, 1.0]
    assert weighted_holm([0.5, 0.5], [0.0, 0.0]) == [1.0, 1.0]
