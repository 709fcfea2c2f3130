"""Whose contribution it is that a candidate fails by: pure rules on the counts of models of some of the contributions.

The smallest set is searched without which the rest passes. Where there is none among those that may be tried, each
contribution gets its Shapley value (exact up to eight, GTG-Shapley beyond), and those below zero are named together.
What has not been scored yet is asked for, a few models at a time: the same search, begun anew, goes one step further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from coldfuse.core.attribution import SpentError, attribute, leave_one_out
from coldfuse.core.gate import decide
from coldfuse.core.gate_rules import Finding, GateRules, SuiteCounts, mean_change, points
from coldfuse.core.gating import MAX_TRIED
from coldfuse.core.harm import Harm, who_harms
from coldfuse.core.words import plural

MAX_SEARCHED = 128
"""Number of models that are scored to find a smallest set without which the rest passes."""

_LEAST_HARM = 0.005
"""Worth below zero that is told from chance: half a point."""

_AT_ONCE = 64
"""Number of models that are asked for at a time."""


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
            _UnknownError: Nobody has scored it, and it may be asked for.
            SpentError: Nobody has scored it, and no further model may be scored.
        """
        counts = self.counts(subset)
        if counts is None and len(self.tried) >= MAX_TRIED:
            raise SpentError(f"{MAX_TRIED} models were scored to find who harms")
        if counts is None:
            raise _UnknownError(subset)
        return mean_change(counts)

    def passes(self, subset: frozenset[str]) -> bool:
        """Tell whether the operator's suites let a model of some of them pass; raises as `value`."""
        self.value(subset)
        return not fails(self.rules, self.counts(subset) or ())


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
    return finding_of(rules, counts) in ("worse", "not-better")


def finding_of(rules: GateRules, counts: Sequence[SuiteCounts]) -> Finding:
    """Return what the operator's suites find by themselves."""
    return decide(rules.model_copy(update={"min_evaluators": 1}), counts).finding


def blame(suspects: Suspects) -> Blame | list[frozenset[str]]:
    """Name who harms, or the models that have to be scored before that can be said, the next one first."""
    names = sorted(suspects.contributions)
    if len(names) > MAX_SEARCHED - 2:  # all of them, none, and all but each
        return Blame({}, f"whose contribution it is cannot be looked for among {len(names):,}")
    try:
        found = who_harms(names, suspects.value, passes=suspects.passes, min_kept=0, max_calls=MAX_SEARCHED)
        if found.is_found:
            return Blame({name: _why(suspects, found) for name in found.harmful})
        return _by_shapley(suspects, names)
    except _UnknownError as error:
        alike = map(frozenset, combinations(names, len(error.subset)))  # what was asked for is one of many such
        unknown = (each for each in alike if each != error.subset and suspects.counts(each) is None)
        return [error.subset, *islice(unknown, _AT_ONCE - 1)]


def _by_shapley(suspects: Suspects, names: Sequence[str]) -> Blame:
    """Name all that clearly do harm, where leaving out a few does not help."""
    if finding_of(suspects.rules, suspects.whole) != "worse":  # what is merely not better harms nobody
        return Blame({}, "nobody does harm: it is no worse than its base, and not better")
    try:
        found = attribute(names, suspects.value)
    except SpentError:
        found = leave_one_out(names, suspects.value)
    harmful = {
        name: f"{_whole(suspects)}; its part in that is {points(worth)} ({found.method}, {found.reason})"
        for name, worth in found.worth.items()
        if worth < -max(suspects.rules.margin, _LEAST_HARM)
    }
    return Blame(harmful, "" if harmful else f"no contribution clearly does harm ({found.reason})")


def _why(suspects: Suspects, found: Harm) -> str:
    rest = frozenset(suspects.contributions) - set(found.harmful)
    others = f" and {plural(len(found.harmful) - 1, 'other')}" if len(found.harmful) > 1 else ""
    return f"{_whole(suspects)}, without it{others} by {points(suspects.value(rest))}"


def _whole(suspects: Suspects) -> str:
    changed = points(mean_change(suspects.whole))
    return f"with it the fused model changes the suites' scores by {changed} in the mean ({_worst(suspects.whole)})"


def _worst(counts: Sequence[SuiteCounts]) -> str:
    worst = min(counts, key=lambda one: (one.difference, one.suite))
    return (
        f"{worst.suite}: {worst.only_before} right only before, {worst.only_after} only after, of {worst.num_examples}"
    )
