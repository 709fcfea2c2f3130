"""Tails of the binomial distribution for up to many millions of trials, and what exact paired tests need beside them.

Only arithmetic, nothing that overflows: the largest term is found in logarithms, the others by their ratio to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

MAX_TRIALS = 10**7
"""Number of trials up to which a tail is summed: some ten thousand terms at most count."""

_NEGLIGIBLE = 1e-18


def upper_tail(successes: int, trials: int, share: float = 0.5) -> float:
    """Return P(X ≥ successes) for X ~ Binomial(trials, share).

    >>> upper_tail(5, 5), upper_tail(0, 5), upper_tail(0, 0), round(upper_tail(9, 10, 0.6), 6)
    (0.03125, 1.0, 1.0, 0.046357)

    Args:
        successes: Number of successes; below 0 as 0.
        trials: Number of trials, from 0 to `MAX_TRIALS`.
        share: Probability of a success; beyond 0 and 1 as these.

    Raises:
        ValueError: The number of trials is out of bounds, or the share is no number.
    """
    if not 0 <= trials <= MAX_TRIALS or math.isnan(share):
        raise ValueError(f"{trials} trials with {share}: expected 0 to {MAX_TRIALS:,} and a probability")
    if successes <= 0 or (share >= 1 and successes <= trials):
        return 1.0
    if successes > trials or share <= 0:
        return 0.0
    return _upper_tail(successes, trials, share)


@lru_cache(maxsize=4096)
def _upper_tail(successes: int, trials: int, share: float) -> float:
    if successes > trials * share:
        return min(1.0, _sum_up(successes, trials, share))
    return max(0.0, 1.0 - _sum_up(trials - successes + 1, trials, 1.0 - share))  # what is below, seen from above


def _sum_up(first: int, trials: int, share: float) -> float:
    """Sum the terms from one above the mean on; each is smaller than the one before."""
    odds, ratio, total = share / (1.0 - share), 1.0, 0.0
    for successes in range(first, trials + 1):
        total += ratio
        ratio *= (trials - successes) / (successes + 1) * odds
        if ratio < _NEGLIGIBLE * total:
            break
    return math.exp(_log_term(first, trials, share)) * total


def _log_term(successes: int, trials: int, share: float) -> float:
    failures = trials - successes
    log_ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(failures + 1)
    return log_ways + successes * math.log(share) + failures * math.log1p(-share)


def least_share(successes: int, trials: int, chance: float) -> float:
    """Return a lower limit of a probability, which is above it with at most this chance (Chernoff's bound).

    It solves n · KL(k / n ‖ p) = ln(1 / chance), and is a little lower than Clopper and Pearson's exact limit, which
    would need a tail at every step.

    >>> round(least_share(100, 1000, 0.001), 4), least_share(0, 1000, 0.001)
    (0.0684, 0.0)
    """
    if successes <= 0 or trials <= 0:
        return 0.0
    seen, limit = min(successes / trials, 1.0), -math.log(chance) / trials
    low, high = 0.0, seen
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _divergence(seen, middle) <= limit else (middle, high)
    return low


def _divergence(seen: float, share: float) -> float:
    """Return KL(seen ‖ share) of two coins, for 0 < share ≤ seen ≤ 1."""
    if share <= 0:
        return math.inf
    rest = 0.0 if seen >= 1 else (1 - seen) * (math.log1p(-seen) - math.log1p(-share))
    return seen * math.log(seen / share) + rest


def fewest_to_reject(level: float) -> int:
    """Return how many examples on which two models differ can show that one is worse at all: 2⁻ⁿ ≤ level.

    >>> fewest_to_reject(0.05), fewest_to_reject(0.5)
    (5, 1)
    """
    return max(1, math.ceil(-math.log2(level)))


def weighted_holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Adjust p-values for having been looked at together: at most α are false where those up to α are claimed.

    The weighted form (Holm, Scandinavian Journal of Statistics 6, 1979): p_i counts by its share of the weights that
    are left. With equal weights it is the usual one.

    >>> [round(p, 3) for p in weighted_holm([0.01, 0.04, 0.03], [1, 1, 1])], weighted_holm([], [])
    ([0.03, 0.06, 0.06], [])

    Args:
        p_values: One of each hypothesis.
        weights: Their weights, at least 0; one of weight 0 is never claimed.
    """

    def key(index: int) -> float:
        return p_values[index] / weights[index] if weights[index] > 0 else math.inf

    order = sorted(range(len(p_values)), key=key)
    left = list(accumulate(weights[index] for index in reversed(order)))[::-1]  # summed, as differences leave crumbs
    adjusted, highest = [1.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        if weights[index] <= 0:
            break
        highest = max(highest, min(1.0, left[place] / weights[index] * p_values[index]))
        adjusted[index] = highest
    return adjusted
