"""Weights by score: before a round is fused, models of some of its contributions are scored on the operator's suites.

Each model is fused as ever, by the method's own weights, and what the suites say of it is an entry of the journal
(`Tried`). Once all are there, what follows from them (`core.scored_weights`) is one more entry (`Weighed`), and all
that is fused in the round from then on counts by it: the candidate, and what is tried where the gate refuses it. A
leader that takes over goes on from the last entry, and whoever fuses the round again reads the same factors.
"""

from __future__ import annotations

from coldfuse.aggregator.at_gate import Gate
from coldfuse.core.gating import Tried, Weighed, subset_of
from coldfuse.core.round import LeaderEvent, RoundState
from coldfuse.core.scored_weights import MAX_SCORED, Weighting, models_to_score, weigh
from coldfuse.engine.recipes import read_recipe


def next_weighing(gate: Gate, state: RoundState) -> list[LeaderEvent] | None:
    """Do the next thing before a round is fused by weights that follow from scores.

    Args:
        gate: What is at hand.
        state: What the round's journal adds up to.

    Returns:
        What is to be appended; None: nothing has to be weighed (any more).

    Raises:
        DamagedObjectError: Something that a contribution is made of is damaged.
        StorageError: The store is away.
    """
    weighting = gate.federation.settings.weighting
    if weighting is None or weighting == "none" or state.gating.weighed is not None:
        return None
    there = state.to_fuse
    if why := _why_not(gate, len(there)):
        return [Weighed(weighting=weighting, reason=f"{why}: all count as ever")]
    missing = [each for each in models_to_score(weighting, there) if each not in state.gating.scored]
    if missing:
        return [*_score(gate, state, missing[: max(gate.executor.num_workers, 1)])]
    return [_weighed(weighting, state)]


def _why_not(gate: Gate, num_there: int) -> str | None:
    """Return why contributions are not scored; None where they are."""
    method = gate.federation.settings.method
    if not read_recipe(method).combiner.is_weighted:
        return f"{method[:100]} looks at no weights"
    if gate.examiner is None:
        return "the aggregator has no suite to score contributions on (coldfuse aggregator --suite)"
    if num_there < 2:
        return "one contribution needs no weight"
    if num_there > MAX_SCORED:
        return f"{num_there:,} contributions are more than the {MAX_SCORED} that can be scored in a round"
    return None


def _score(gate: Gate, state: RoundState, subsets: list[frozenset[str]]) -> list[Tried]:
    if gate.examiner is None:
        return []
    models = [tuple(state.admitted[digest] for digest in subset_of(subset)) for subset in subsets]
    counts = dict(gate.examiner.count(gate.federation, gate.base, models, gate.executor))
    return [
        Tried(contributions=subset_of(subset), counts=counts[index], for_weights=True)
        for index, subset in enumerate(subsets)
    ]


def _weighed(weighting: Weighting, state: RoundState) -> Weighed:
    factors, reason = weigh(weighting, state.to_fuse, state.gating.scored)
    return Weighed(weighting=weighting, factors=factors, reason=reason)
