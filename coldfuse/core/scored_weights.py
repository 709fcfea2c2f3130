"""Weights by score: what a contribution counts by what it was found to be worth, within bounds.

A score is how much better the base is with a contribution alone, or how much worse all are without it: the part of
FedCE (arXiv 2303.16520) that looks at validation data. A score of few examples is mostly chance, so weights are
bounded, and nobody is left out by one: that is for the gate, which says why. FedCE's other part, how much a delta
differs from the others', is not here: it needs everybody in every round, and what differs because it is harmful scores
high by it.

Suites are the operator's own. Evaluators' signed counts inform no weights: evaluators are asked about a candidate, or
about what is left once it was refused, both of which are fused by weights that are set by then. One or more questions a
contribution would ask one validation set far more often than `GateRules.max_asks` allows; and a factor is a mean of
scores, which one evaluator alone can move, where the gate believes a loss only without whoever lost the most.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from coldfuse.core.gate_rules import SuiteCounts, mean_change, points
from coldfuse.core.words import plural
from coldfuse.errors import FusionError

Weighting = Literal["none", "validation", "leave-one-out"]
"""What contributions are scored by, beside what the fusion method weighs by. `validation`: the score of the base with
each alone. `leave-one-out`: what all of them lose without it."""

MAX_SCORED = 128
"""Number of contributions up to which each is scored: that many models are fused and scored for it."""

MAX_RATIO = 3.0
"""How many times the usual weight, or what part of it, a weight by score may be."""


def weights_by_score(scores: Mapping[str, float], *, max_ratio: float = MAX_RATIO) -> dict[str, float]:
    """Return a factor for each contribution's weight: its score over the mean of those above 0, within bounds.

    >>> weights_by_score({"a": 1.0, "b": 1.0, "c": 4.0, "d": -9.0})
    {'a': 0.5, 'b': 0.5, 'c': 2.0, 'd': 0.3333333333333333}

    Args:
        scores: What each was found to be worth, such as Shapley values; at most 0 for what is worth nothing.
        max_ratio: The largest factor, and one over the smallest, at least 1. Nobody is left out by a score: that is for
            the gate, which says why.

    Raises:
        FusionError: A score is not finite, or the ratio is below 1.
    """
    if not max_ratio >= 1 or math.isinf(max_ratio) or not all(map(math.isfinite, scores.values())):
        raise FusionError(f"scores must be finite, and the largest factor at least 1, got {max_ratio}")
    above = [score for score in scores.values() if score > 0]
    if not above:
        return dict.fromkeys(scores, 1.0)  # of nothing but harm a score says nothing
    largest = max(above)  # scaled first: a sum of huge scores is no float
    mean = math.fsum(score / largest for score in above) / len(above)
    least = 1.0 / max_ratio
    return {name: min(max_ratio, max(least, score / largest / mean)) for name, score in scores.items()}


def models_to_score(weighting: Weighting, contributions: Collection[str]) -> list[frozenset[str]]:
    """Return the sets of contributions whose models have to be scored to weigh them, in an order of their own.

    >>> [sorted(each) for each in models_to_score("leave-one-out", ["a", "b", "c"])]
    [['a', 'b', 'c'], ['b', 'c'], ['a', 'c'], ['a', 'b']]
    """
    names = sorted(contributions)
    if weighting == "validation":
        return [frozenset({name}) for name in names]
    return [frozenset(names), *(frozenset(names) - {name} for name in names)] if weighting == "leave-one-out" else []


def weigh(
    weighting: Weighting, contributions: Collection[str], scored: Mapping[frozenset[str], Sequence[SuiteCounts]]
) -> tuple[dict[str, float], str]:
    """Return what each contribution's weight is multiplied by, and how that was found, for people.

    Args:
        weighting: What they are scored by.
        contributions: Digests of all of them.
        scored: Counts of the models of `models_to_score`, beside the base.

    Returns:
        A factor for each, or none where no suite has scored a model: then all count as ever.
    """
    wanted = models_to_score(weighting, contributions)
    if not wanted or not all(scored.get(each) for each in wanted):
        return {}, "no suite has scored them: all count as ever"
    worth = {each: mean_change(scored[each]) for each in wanted}
    everybody = frozenset(contributions)
    if weighting == "validation":
        scores, what = {name: worth[frozenset({name})] for name in everybody}, "than its base is the model of each"
    else:
        scores = {name: worth[everybody] - worth[everybody - {name}] for name in everybody}
        what = "with each is the model of all"
    num_above = sum(score > 0 for score in scores.values())
    found = f"{plural(len(scores), 'contribution')} scored on {plural(len(scored[wanted[0]]), 'suite')}"
    if not num_above:
        return dict.fromkeys(sorted(scores), 1.0), f"{found}: none makes it better, so a score says nothing"
    factors = weights_by_score(scores)
    least, most = min(scores.values()), max(scores.values())
    return (
        {name: factors[name] for name in sorted(factors)},
        f"{found} ({weighting}): better {what} by {points(least)} to {points(most)}; "
        f"weights ×{min(factors.values()):.3g} to ×{max(factors.values()):.3g}",
    )
