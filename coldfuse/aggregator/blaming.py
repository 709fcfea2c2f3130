"""Whose contribution it is that a candidate fails by: pure rules on the counts of models of some of the contributions.

First each contribution is left out alone: if what is left passes the gate, the one that it gains most without is named.
Where no single one explains the failure, each gets its Shapley value (exact up to eight contributions, GTG-Shapley
beyond), and those below zero are named together. What has not been scored yet is asked for, a few models at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldfuse.core.gate import decide
from coldfuse.core.gate_rules import GateRules, SuiteCounts, points


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What is known when somebody is looked for."""

    rules: GateRules
    whole: Sequence[SuiteCounts]
    """Counts of all contributions together, which have failed."""
    tried: Mapping[frozenset[str], Sequence[SuiteCounts]]
    """Counts of some of them, by what was fused."""
    contributions: tuple[str, ...]
    """Digests of all of them."""

    def counts(self, subset: frozenset[str]) -> Sequence[SuiteCounts] | None:
        """Return the counts of a model of some of them; None while nobody has scored it."""
        if subset == frozenset(self.contributions):
            return self.whole
        if not subset:  # the base itself
            return [one.model_copy(update={"only_before": 0, "only_after": 0}) for one in self.whole]
        return self.tried.get(subset)

    def value(self, subset: frozenset[str]) -> float:
        """Return how much better a model of some of them is than the base: the mean change of the score of a suite.

        Raises:
            _UnknownError: Nobody has scored it.
        """
        counts = self.counts(subset)
        if counts is None:
            raise _UnknownError(subset)
        return mean_change(counts)


@dataclass(frozen=True)
class Blame:
    """Who harms."""

    harmful: Mapping[str, str]
    """Why, by the contribution's digest; nobody where none can be named."""
    reason: str = ""
    """Why nobody is named."""


class _UnknownError(Exception):
    def __init__(self, subset: frozenset[str]) -> None:
        super().__init__()
        self.subset = subset


def fails(rules: GateRules, counts: Sequence[SuiteCounts]) -> bool:
    """Tell whether the operator's suites alone, however many evaluators the rules ask for, see harm in a model."""
    return decide(rules.model_copy(update={"min_evaluators": 1}), counts).finding in ("worse", "not-better")


def mean_change(counts: Sequence[SuiteCounts]) -> float:
    """Return the mean change of the score, over suites.

    >>> mean_change([SuiteCounts(suite="a", num_examples=100, only_before=3, only_after=1)])
    -0.02
    """
    return sum(one.difference for one in counts) / len(counts) if counts else 0.0


def blame(suspects: Suspects) -> Blame | list[frozenset[str]]:
    """Name who harms, or the models that have to be scored before that can be said, the next ones first."""
    all_of_them = frozenset(suspects.contributions)
    without = {digest: all_of_them - {digest} for digest in sorted(all_of_them)}
    unknown = [subset for subset in without.values() if suspects.counts(subset) is None]
    if unknown:
        return unknown
    passing = [digest for digest, subset in without.items() if not fails(suspects.rules, suspects.counts(subset) or ())]
    if passing:
        worst = max(passing, key=lambda digest: suspects.value(without[digest]))
        return Blame({worst: _why(suspects, without[worst])})
    return _by_leaving_out(suspects, without)


def _by_leaving_out(suspects: Suspects, without: Mapping[str, frozenset[str]]) -> Blame:
    """Name all without each of which the others do better."""
    whole = mean_change(suspects.whole)
    values = {name: whole - suspects.value(subset) for name, subset in without.items()}
    harmful = {name: _why(suspects, without[name], value) for name, value in values.items() if value < 0}
    return Blame(harmful, "" if harmful else "no contribution does harm by itself")


def _why(suspects: Suspects, without: frozenset[str], value: float | None = None) -> str:
    whole = mean_change(suspects.whole)
    rest = suspects.value(without)
    share = "" if value is None else f"; its part in that is {points(value)}"
    return (
        f"with it the fused model changes the suites' scores by {points(whole)} in the mean, without it by "
        f"{points(rest)} ({_worst(suspects.whole)}){share}"
    )


def _worst(counts: Sequence[SuiteCounts]) -> str:
    worst = min(counts, key=lambda one: (one.difference, one.suite))
    return (
        f"{worst.suite}: {worst.only_before} right only before, {worst.only_after} only after, of {worst.num_examples}"
    )
