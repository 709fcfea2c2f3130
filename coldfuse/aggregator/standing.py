"""How much each contribution of a closed round counts: its weight, and the share of its delta that is taken.

It follows from the contributions that are fused, the base release and the round's rules alone, so anybody who has them
finds the same, whatever the order in which they came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coldfuse.core.contribution import MAX_EXAMPLES, Admission, in_fusing_order
from coldfuse.core.lengths import even_out, limits_of, remember
from coldfuse.core.release import FusedContribution
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.statistics import StatisticsKind
from coldfuse.fusion.recipe import Recipe

_NAMED = 5
"""Number of contributors that a note for people names."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A contribution, and how much it counts."""

    admission: Admission
    weight: float
    """Weight w_i, before normalisation."""
    claimed: float
    """The same, as what its contributor claims would make it, and its score."""
    share: float = 1.0
    """Share of its delta that is taken, as it is too long."""
    staleness_weight: float = 1.0
    """What its delta is multiplied by besides, for the age of its base."""

    def fused(self, statistic: StatisticsKind | None = None) -> FusedContribution:
        """Return what a release says of it, whose method looks at this kind of statistics."""
        admission = self.admission
        used = admission.used_statistics(statistic)
        return FusedContribution(
            contribution=admission.contribution, contributor=admission.contributor,
            display_name=admission.display_name, delta_digest=admission.delta_digest,
            num_examples=_examples(admission), weight=self.weight,
            norm=admission.measured.norm if admission.measured else None, scale=self.share,
            base_release=admission.base_release,
            staleness_weight=None if admission.base_release is None else self.staleness_weight,
            statistics=used.kind if used else None, is_named=admission.is_named,
            edit=admission.edit, score_weight=admission.score_weight,
        )  # fmt: skip


def standing(
    admissions: Iterable[Admission],
    recipe: Recipe,
    rules: ScreeningRules,
    past: Mapping[str, Sequence[float]],
    *,
    staleness: Callable[[Admission], float] = lambda _: 1.0,
) -> list[Standing]:
    """Say how much each contribution counts, in the order of fusing.

    Args:
        admissions: What is fused, in any order.
        recipe: How.
        rules: The rules that the round was opened with.
        past: Median lengths of deltas in past rounds, by kind.
        staleness: What a delta is multiplied by for the age of its base.
    """
    ordered = in_fusing_order(admissions)
    claimed = [recipe.combiner.weigh(_examples(a), None if a.score is None else min(a.score, 1.0)) for a in ordered]
    if not any(claimed):  # all scores are 0: all count alike
        claimed = [1.0] * len(ordered)
    factors = [1.0 if a.score_weight is None else a.score_weight for a in ordered]
    claimed = [claim * factor for claim, factor in zip(claimed, factors, strict=True)]
    limits = limits_of(_lengths(ordered, rules), past, rules)
    return [
        Standing(
            admission=admission,
            weight=weight,
            claimed=claim,
            share=_share(admission, limits),
            staleness_weight=staleness(admission),
        )
        for admission, weight, claim in zip(ordered, even_out(claimed, rules), claimed, strict=True)
    ]


def norms_after(
    counted: Sequence[Standing], rules: ScreeningRules, past: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """Return the median lengths of past rounds with those of this one, as they were fused."""
    shares = {each.admission.contribution: each.share for each in counted}
    return remember(past, _lengths([each.admission for each in counted], rules, shares))


def describe(counted: Sequence[Standing]) -> str:
    """Say for people who counts less than they claimed; "" if nobody does."""
    notes = [
        f"{each.admission.contributor}'s delta is shortened to {each.share:.3g} of its length"
        for each in counted
        if each.share < 1
    ]
    notes += [
        f"{each.admission.contributor} weighs {each.weight:g} instead of {each.claimed:g}"
        for each in counted
        if each.weight < each.claimed
    ]
    more = f"; and {len(notes) - _NAMED} more" if len(notes) > _NAMED else ""
    return "; ".join(notes[:_NAMED]) + more


def _examples(admission: Admission) -> int:
    return min(admission.num_examples, MAX_EXAMPLES)


def _share(admission: Admission, limits: Mapping[str, float | None]) -> float:
    measured = admission.measured
    limit = limits.get(measured.kind) if measured else None
    return 1.0 if measured is None or not limit or measured.norm <= limit else limit / measured.norm


def _lengths(
    admissions: Iterable[Admission], rules: ScreeningRules, shares: Mapping[str, float] | None = None
) -> dict[str, list[float]]:
    """Return the lengths of deltas by their kind; nothing where the rules compare nothing."""
    found: dict[str, list[float]] = defaultdict(list)
    for admission in admissions:
        if rules.is_on and admission.measured is not None:
            share = shares[admission.contribution] if shares else 1.0
            found[admission.measured.kind].append(admission.measured.norm * share)
    return found
