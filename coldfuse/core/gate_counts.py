"""What evaluators say, taken together: whose words count and how much, and the exact paired test over them.

A candidate and its base are compared on the same examples. Of those on which the two differ, D in number, each is a
loss with probability ½ (1 + m / ψ) at most, where m is the margin and ψ = P(differ): so the losses are at most
Binomial(D, ·), which is McNemar's test in its exact form where m is 0. ψ is not known; a lower limit of it, which fails
with a chance that is added to p, keeps the test valid (Berger & Boos, JASA 89, 1994). Pooled examples of several suites
have several such probabilities, and the tail of their sum is no heavier (Hoeffding, 1956).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import NormalDist, median_low

from coldfuse.core.binomial import MAX_TRIALS, fewest_to_reject, least_share, upper_tail
from coldfuse.core.gate_rules import MAX_EVALUATORS, GateRules, SuiteCounts
from coldfuse.core.words import plural

POWER = 0.8
"""Chance with which a loss is seen that is called visible."""

_FACTOR = 3.0
"""How many times the median number of examples of three or more members one of them may count."""

_FEW = 3
"""Number of members from which their median says something of each."""

_IMPOSSIBLE = 1e-9
"""Chance of a noise beyond which counts are not believed."""


@dataclass(frozen=True)
class Pool:
    """Counts taken together."""

    num_examples: int = 0
    only_before: int = 0
    only_after: int = 0
    num_noises: int = 0
    """Number of noises that they are sums of, two for each member."""

    @property
    def difference(self) -> float | None:
        """Change of the score, as a share of the examples; None without any."""
        if not self.num_examples:
            return None
        return max(-1.0, min(1.0, (self.only_after - self.only_before) / self.num_examples))

    def turned(self) -> Pool:
        """Return the same with base and candidate exchanged."""
        return Pool(self.num_examples, self.only_after, self.only_before, self.num_noises)

    def __str__(self) -> str:
        """Say the counts."""
        return (
            f"{self.only_before:,} right only before, {self.only_after:,} only after, of "
            f"{plural(self.num_examples, 'example')}"
        )


@dataclass(frozen=True)
class Voice:
    """Counts that are believed, and what they count."""

    counts: SuiteCounts
    in_suite: float
    """Part that counts within the suite, at most 1."""
    in_all: float
    """Part that counts over all suites, at most 1."""


def noise_slack(scale: float, num_noises: int, chance: float) -> int:
    """Return what a sum of noises exceeds with at most this chance, in examples.

    Chernoff's bound with −ln(1 − x) ≤ 2x for x ≤ ½; the noise of `GateRules.noise` is no heavier than Laplace's.

    >>> noise_slack(0.0, 2, 0.001), noise_slack(2.0, 2, 0.001), noise_slack(2.0, 200, 0.001)
    (0, 26, 211)
    """
    if scale <= 0 or num_noises <= 0:
        return 0
    wanted = -math.log(chance)
    if wanted <= num_noises:
        return math.ceil(scale * math.sqrt(8 * num_noises * wanted))
    return math.ceil(scale * math.sqrt(2) * (wanted + num_noises))


def problem(counts: SuiteCounts, rules: GateRules) -> str | None:
    """Return why no examples can have such counts, or None."""
    slack = noise_slack(rules.noise, 2, _IMPOSSIBLE) if counts.evaluator is not None else 0
    both = counts.only_before + counts.only_after
    low, high = counts.only_after - 2 * slack, counts.num_examples - counts.only_before + 2 * slack
    if counts.num_right is not None and not low <= counts.num_right <= high:
        return f"{counts.num_right:,} right of {plural(counts.num_examples, 'example')}, against its other counts"
    if min(counts.only_before, counts.only_after) >= -slack and both <= counts.num_examples + slack:
        return None
    return (
        f"{counts.only_before:,} right only before and {counts.only_after:,} only after of "
        f"{plural(counts.num_examples, 'example')}, expected parts of them{' and noise' if slack else ''}"
    )


def believe(counts: Iterable[SuiteCounts], rules: GateRules) -> tuple[list[SuiteCounts], list[str]]:
    """Return what is believed, in an order of its own, and why the rest is not."""
    told = sorted(set(counts), key=lambda each: (each.evaluator or "", each.suite, each.only_before, each.only_after))
    kept: list[SuiteCounts] = []
    flags: list[str] = []
    num_members = 0
    for who, group in groupby(told, key=lambda each: each.evaluator):
        own = list(group)
        num_members += who is not None
        if num_members > MAX_EVALUATORS:
            flags.append(f"more than {MAX_EVALUATORS} members have answered; what the others say is not counted")
            break
        num_suites = len({each.suite for each in own})
        if who is not None and num_suites > rules.max_suites:
            flags.append(f"{who} answers for {num_suites} suites, at most {rules.max_suites} are taken: none counts")
            continue
        for suite, answers in groupby(own, key=lambda each: each.suite):
            said = list(answers)
            why = "says two things of it" if len(said) > 1 else problem(said[0], rules)
            if why is not None:
                flags.append(f"{who or 'the operator'} on {suite}: {why}; not counted")
            elif rules.weight_of(suite) > 0:
                kept.append(said[0])
    return kept, flags


def hear(counts: Sequence[SuiteCounts], rules: GateRules) -> list[Voice]:
    """Return how much each of the counts that are believed counts: of many members none much more than the median."""
    by_suite: dict[str, dict[str | None, float]] = {}
    for each in counts:
        by_suite.setdefault(each.suite, {})[each.evaluator] = each.num_examples
    in_suite = {(suite, who): part for suite, own in by_suite.items() for who, part in _even_out(own).items()}
    totals: dict[str | None, float] = {}
    for each in counts:
        part = in_suite[each.suite, each.evaluator] * rules.weight_of(each.suite)
        totals[each.evaluator] = totals.get(each.evaluator, 0.0) + part * each.num_examples
    overall = _even_out(totals)
    most = max((rules.weight_of(suite) for suite in by_suite), default=1.0)
    return [
        Voice(each, part, part * overall[each.evaluator] * rules.weight_of(each.suite) / most)
        for each in counts
        for part in [in_suite[each.suite, each.evaluator]]
    ]


def _even_out(totals: Mapping[str | None, float]) -> dict[str | None, float]:
    members = [total for who, total in totals.items() if who is not None]
    limit = _FACTOR * median_low(members) if len(members) >= _FEW else math.inf
    return {who: 1.0 if who is None else min(1.0, limit / total) for who, total in totals.items()}


def pool(voices: Iterable[Voice], *, over_all: bool = True, without: Collection[str] = ()) -> Pool:
    """Add counts, over all suites or as of one suite, without those of some members."""
    heard = [
        (each.counts, each.in_all if over_all else each.in_suite)
        for each in voices
        if each.counts.evaluator not in without
    ]
    num = math.fsum(part * counts.num_examples for counts, part in heard)
    shrink = min(1.0, MAX_TRIALS / num) if num else 1.0
    before = math.fsum(part * counts.only_before for counts, part in heard) * shrink
    after = math.fsum(part * counts.only_after for counts, part in heard) * shrink
    return Pool(round(num * shrink), round(before), round(after),
                2 * sum(counts.evaluator is not None for counts, _ in heard))  # fmt: skip


def p_worse(counts: Pool, rules: GateRules, *, margin: float, level: float) -> float:
    """Return the p-value of "the candidate is not worse than the base by more than the margin"; valid at any size.

    Args:
        counts: Losses and gains.
        rules: How much noise they have.
        margin: Accepted loss, as a share of the examples.
        level: Level at which it will be looked at, for how sure the limits on what is not known are.
    """
    chance = level / 50
    slack = noise_slack(rules.noise, counts.num_noises, chance)
    differ, lost = counts.only_before + counts.only_after, counts.only_before - counts.only_after - slack
    if lost <= margin * counts.num_examples:
        return 1.0
    most = max(lost, min(differ + slack, counts.num_examples))
    if most > MAX_TRIALS:
        return 1.0
    share = 0.5
    if margin > 0:
        least = least_share(max(differ - slack, 0), counts.num_examples, chance)
        share = 1.0 if least <= margin else 0.5 * (1.0 + margin / least)
    p = upper_tail((most + lost) // 2, most, share)
    return min(1.0, p + chance * ((margin > 0) + 2 * (slack > 0)))


def visible_loss(counts: Pool, rules: GateRules, *, margin: float, level: float) -> float | None:
    """Return the smallest loss that the test calls one in four of five rounds, as a share of the examples.

    A loss of x examples adds x to those on which the two differ, D: it is seen where x ≥ z √(D + x) with
    z = z_α + z_power, in the normal approximation.

    Returns:
        The loss with the margin; None where even a loss of every example would not be seen.
    """
    num = counts.num_examples
    if not num:
        return None
    slack = noise_slack(rules.noise, counts.num_noises, level / 50)
    differ = max(0.0, min(counts.only_before + counts.only_after, num)) + margin * num + 2 * slack
    z2 = (NormalDist().inv_cdf(POWER) - NormalDist().inv_cdf(level)) ** 2
    lost = max(float(fewest_to_reject(level)), (z2 + math.sqrt(z2 * z2 + 4 * z2 * differ)) / 2)
    accepted = margin
    if margin > 0:  # what is accepted grows by how little is known of how many differ
        seen = min(num, round(differ + lost))
        least = least_share(max(0, seen - 2 * slack), num, level / 50)
        accepted = margin * seen / num / least if least > 0 else math.inf
    loss = accepted + (lost + slack) / num
    return loss if loss <= 1 else None
