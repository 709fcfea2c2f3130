"""Whether one model is better than another on the same examples: exact paired tests; "not enough data" is an answer.

What counts are the examples on which the two models differ. Were the models alike, each of those would as likely be won
by the one as by the other, so that the wins of one of n are Binomial(n, ½): for right and wrong that is McNemar's test
in its exact form, for scores of any other kind the sign test. Examples are the unit, never seeds: several seeds give
one score an example, their mean, and add no example.

Only arithmetic: nothing here needs torch or numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from coldfuse.core.binomial import upper_tail, weighted_holm
from coldfuse.core.words import plural

ALPHA = 0.05
"""Share of comparisons of equal models in which a difference may be claimed."""

RESOLUTION = 0.01
"""Difference, as a share of the examples, that a comparison should be able to see: one point of a hundred."""


class Verdict(StrEnum):
    """What a comparison says of the second model."""

    BETTER = "better"
    WORSE = "worse"
    ALIKE = "no difference seen"
    UNKNOWN = "not enough data"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """On how many of the same examples each of two models is better."""

    num_examples: int
    """Examples that both were scored on."""
    only_before: int
    """Examples on which the first is better: of right and wrong, those that it alone gets right."""
    only_after: int
    """Examples on which the second is better."""

    def __post_init__(self) -> None:
        """Refuse counts that no examples can have."""
        if min(self.only_before, self.only_after) < 0 or self.num_discordant > self.num_examples:
            raise ValueError(
                f"{self.only_before} and {self.only_after} of {self.num_examples} examples: expected parts of them"
            )

    @property
    def num_discordant(self) -> int:
        """Number of examples on which the two differ."""
        return self.only_before + self.only_after

    @property
    def p(self) -> float:
        """Probability of so uneven a split, or a more uneven one, if the models were alike."""
        return sign_test(self.only_before, self.only_after)

    def __add__(self, other: Counts) -> Counts:
        """Pool the examples of two data sets."""
        return Counts(
            num_examples=self.num_examples + other.num_examples,
            only_before=self.only_before + other.only_before,
            only_after=self.only_after + other.only_after,
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the same examples say of two models."""

    counts: Counts
    """Examples by which of the two is better on them."""
    p: float
    """Probability under equal models, adjusted for the other comparisons that were made with it (Holm)."""
    smallest_visible: float | None
    """Smallest difference in wins, as a share of the examples, that would have been called one; None where even a win
    on every example would not have been."""
    verdict: Verdict
    """What follows."""
    net_wins: tuple[int, ...] = ()
    """Examples won less those lost, seed by seed, where the seeds disagree."""

    def unless_seeds_disagree(self, net_wins: Sequence[int]) -> Comparison:
        """Return the same, without a winner where some seed has it the other way round.

        The test asks how far other examples would agree, with the draws and orders of training as they were. Where
        these decide who wins, more examples do not tell.

        Args:
            net_wins: Examples won less examples lost by the second model, seed by seed.
        """
        sides = {net > 0 for net in net_wins if net}
        if len(sides) < 2 or self.verdict not in (Verdict.BETTER, Verdict.WORSE):
            return self
        return replace(self, verdict=Verdict.UNKNOWN, net_wins=tuple(net_wins))

    @property
    def reason(self) -> str:
        """Say in a line what the verdict comes from."""
        c = self.counts
        if not c.num_discordant:
            what = f"the same on every one of {plural(c.num_examples, 'example')}"
        else:
            what = (
                f"better on {c.only_after:,} and worse on {c.only_before:,} of {plural(c.num_examples, 'example')}, "
                f"p = {self.p:.2g}"
            )
        if self.verdict in (Verdict.BETTER, Verdict.WORSE):
            return what
        if self.net_wins:
            return (
                f"{what}; but the seeds disagree: {', '.join(f'{net:+d}' for net in self.net_wins)} examples; take more"
            )
        if self.smallest_visible is None:
            return f"{what}; so few examples can show no difference at all"
        return f"{what}; a difference below {100 * self.smallest_visible:.2g} points cannot be seen here"


def sign_test(only_before: int, only_after: int) -> float:
    """Return the exact two-sided p-value of a split: 2 · P(Binomial(n, ½) ≤ the smaller part), at most 1.

    On pairs of right and wrong it is McNemar's exact test (Psychometrika 12, 1947).

    >>> round(sign_test(1, 9), 6), sign_test(5, 5), sign_test(0, 0), sign_test(0, 5)
    (0.021484, 1.0, 1.0, 0.0625)
    """
    return min(1.0, 2.0 * upper_tail(max(only_before, only_after), only_before + only_after))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for having been looked at together, so that α bounds the chance of any false claim (Holm, 1979).

    >>> holm([0.01, 0.04, 0.03]), holm([])
    ([0.03, 0.06, 0.06], [])
    """
    return weighted_holm(p_values, [1.0] * len(p_values))


def smallest_visible(num_examples: int, num_discordant: int, *, alpha: float = ALPHA) -> float | None:
    """Return the smallest difference in wins, as a share of the examples, that the test calls one at a level.

    Where so few examples differ that no split of them would do, it is the fewest that would, all won by one model.

    >>> smallest_visible(200, 20), smallest_visible(200, 2), smallest_visible(5, 0)
    (0.05, 0.03, None)
    """
    fewest = next(wins for wins in range(1, 4096) if sign_test(0, wins) <= alpha)
    if num_discordant < fewest:
        return fewest / num_examples if num_examples >= fewest else None
    low, high = 0, num_discordant // 2  # `low` losses are few enough, `high` are too many
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sign_test(middle, num_discordant - middle) <= alpha else (low, middle)
    return (num_discordant - 2 * low) / num_examples


def compare(pairs: Sequence[Counts], *, alpha: float = ALPHA, resolution: float = RESOLUTION) -> list[Comparison]:
    """Compare two models on several data sets, with Holm's adjustment over them.

    Args:
        pairs: Counts of each data set.
        alpha: Chance of any false claim among them all, at most.
        resolution: Difference, as a share of the examples, that should have been visible: where it was not, and no
            difference was found, there are not enough data to say.

    Returns:
        A comparison for each, in their order. What is visible is said at α divided by their number.
    """
    adjusted = holm([counts.p for counts in pairs])
    return [
        _compared(counts, p, alpha=alpha, level=alpha / len(pairs), resolution=resolution)
        for counts, p in zip(pairs, adjusted, strict=True)
    ]


def _compared(counts: Counts, p: float, *, alpha: float, level: float, resolution: float) -> Comparison:
    visible = smallest_visible(counts.num_examples, counts.num_discordant, alpha=level)
    if p <= alpha and counts.only_after != counts.only_before:
        verdict = Verdict.BETTER if counts.only_after > counts.only_before else Verdict.WORSE
    else:
        verdict = Verdict.ALIKE if visible is not None and visible <= resolution else Verdict.UNKNOWN
    return Comparison(counts=counts, p=p, smallest_visible=visible, verdict=verdict)


def count_wins(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> Counts:
    """Count on which examples each model is better, by its mean over the seeds; higher scores are better.

    Args:
        before: Scores of the first model by seed, each one a list of as many scores as there are examples.
        after: Those of the second, on the same examples in the same order.

    Raises:
        ValueError: The lists have different lengths.

    >>> count_wins([[1, 0, 1], [1, 0, 0]], [[1, 1, 0], [1, 0, 0]])
    Counts(num_examples=3, only_before=1, only_after=1)
    """
    first, second = _means(before), _means(after)
    better = sum(b > a for a, b in zip(first, second, strict=True))
    worse = sum(b < a for a, b in zip(first, second, strict=True))
    return Counts(num_examples=len(first), only_before=worse, only_after=better)


def _means(by_seed: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(scores) / len(by_seed) for scores in zip(*by_seed, strict=True)]
