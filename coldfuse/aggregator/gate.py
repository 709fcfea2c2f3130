"""The gate of a round: what was fused is published, or fused again without what harms, or the base is kept.

Everything is one entry after the other (`core.gating`): the counts of the candidate and the decision on it; the counts
of models without some of the contributions; the rejections of those that harm. A leader that takes over goes on from
the last of them. Scores are the same whoever computes them, so it comes to the same release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coldfuse.aggregator.asking import heard, may_ask_now, members_of, point_to
from coldfuse.aggregator.blaming import Blame, Suspects, blame, fails
from coldfuse.aggregator.examining import Examiner
from coldfuse.aggregator.model import Base
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.gate import decide
from coldfuse.core.gate_asking import still_waits
from coldfuse.core.gate_rules import GateRules, SuiteCounts
from coldfuse.core.gating import Asked, Evaluated, Tried, subset_of
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Abandoned, Fused, LeaderEvent, Rejected, RoundState
from coldfuse.core.serialization import sha256
from coldfuse.core.words import plural, printable
from coldfuse.engine.execution import Executor
from coldfuse.errors import DamagedObjectError
from coldfuse.registry.federation import Federation
from coldfuse.registry.scores import waiting_of

MAX_CANDIDATES = 5
"""Number of times that a round is fused at most: after so many refusals the base is kept."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is needed to decide on the candidate of a round."""

    federation: Federation
    """The federation, under the terms of the round."""
    base: Base
    executor: Executor
    examiner: Examiner | None
    """Scores models on the operator's suites; None where there are none."""
    rules: GateRules
    quorum: int
    """Number of contributions that let the round close."""
    number: int
    """The round's number."""
    age_s: float
    """Age of the round."""


def find_candidate(federation: Federation, base: Base, fused: Fused) -> ReleaseManifest | Abandoned:
    """Return what was fused, as it was stored; that the round is abandoned, where it is damaged and not published."""
    try:
        return federation.objects.get_value(ReleaseManifest, fused.manifest)
    except DamagedObjectError as error:
        numbers = range(base.release.release + 1, base.number + 1)
        found = next(filter(None, (federation.find_manifest(one, fused.manifest) for one in numbers)), None)
        if found is None:  # nobody has published it; what was admitted is fused again in the next round
            return Abandoned(reason=_bounded(f"what was fused cannot be published: {error}"))
        return found


def next_at_gate(gate: Gate, state: RoundState, fused: Fused, candidate: ReleaseManifest) -> list[LeaderEvent] | None:
    """Say what happens next to a candidate.

    Args:
        gate: The gate.
        state: What the round's journal adds up to.
        fused: The entry on the candidate.
        candidate: Its manifest, whose files lie in the store.

    Returns:
        What is to be appended, nothing while the round waits; None: it is published.
    """
    if not gate.rules.is_on:
        return None
    found = state.gating.of(fused.manifest)
    if found is None:
        return _evaluate(gate, state, fused, candidate)
    if found.decision.publish:
        return None
    return _after_failure(gate, state, found)


def too_few_left(gate: Gate, state: RoundState) -> Abandoned | None:
    """Say that the base is kept, where the gate has left fewer contributions than the quorum."""
    closed = state.closed.contributions if state.closed else ()
    left = [digest for digest in closed if digest in state.admitted]
    if not state.gating.evaluations or len(left) >= gate.quorum:
        return None
    return Abandoned(
        reason=f"the gate has left out what harms: {plural(len(left), 'contribution')} of {len(closed)} are left, "
        f"{gate.quorum} make the quorum; release {gate.base.release.release} stays the base"
    )


def _evaluate(gate: Gate, state: RoundState, fused: Fused, candidate: ReleaseManifest) -> list[LeaderEvent]:
    """Score a candidate on the operator's suites, and then, if nothing is wrong by these, ask the evaluators."""
    evaluators = members_of(gate.federation, "evaluator")
    if not evaluators:
        return [_decided(gate, fused, _examined(gate, candidate))]
    everybody = frozenset(_there(state))
    own = state.gating.tried.get(everybody, ())
    if not own and gate.examiner is not None and (own := _examined(gate, candidate)):
        return [Tried(contributions=subset_of(everybody), counts=own)]
    if fails(gate.rules, own):
        return [_decided(gate, fused, own)]
    if state.gating.asked is None or state.gating.asked.manifest != fused.manifest:
        if not may_ask_now(gate.federation, state, gate.rules, number=gate.number):
            return [_decided(gate, fused, own, num_silent=len(evaluators))]
        point_to(gate.federation, candidate)
        return [Asked(manifest=fused.manifest, evaluators=evaluators, elapsed_s=gate.age_s)]
    return _after_asking(gate, state, fused, own)


def _after_asking(gate: Gate, state: RoundState, fused: Fused, own: tuple[SuiteCounts, ...]) -> list[LeaderEvent]:
    """Wait for the evaluators who were asked, for as long as the rules say, and decide with those who have answered."""
    asked, waiting = state.gating.asked, waiting_of(gate.number, state)
    if asked is None or waiting is None:
        return []
    awaited = set(asked.evaluators) & set(members_of(gate.federation, "evaluator"))  # who was revoked is not
    words = heard(gate.federation, asked.evaluators, waiting)
    answered = awaited & {word.score.member for word in words}
    waits, _ = still_waits(
        gate.rules, answered=len(answered) + bool(own), enrolled=len(awaited) + bool(own),
        age_s=gate.age_s - (asked.elapsed_s or 0.0),
    )  # fmt: skip
    if waits:
        return []
    for word in words:
        gate.federation.objects.put(sha256(word.envelope), word.envelope)
    counts = (*own, *(one for word in words for one in word.score.counts))
    decided = _decided(gate, fused, counts, num_silent=len(awaited) - len(answered))
    return [decided.model_copy(update={"words": tuple(sha256(word.envelope) for word in words)})]


def _decided(gate: Gate, fused: Fused, counts: tuple[SuiteCounts, ...], *, num_silent: int = 0) -> Evaluated:
    decision = decide(gate.rules, counts, num_silent=num_silent)
    return Evaluated(manifest=fused.manifest, counts=counts, decision=decision)


def _there(state: RoundState) -> dict[str, Admission]:
    """Return what the candidate was fused of."""
    closed = state.closed.contributions if state.closed else ()
    return {digest: state.admitted[digest] for digest in closed if digest in state.admitted}


def _examined(gate: Gate, candidate: ReleaseManifest) -> tuple[SuiteCounts, ...]:
    if gate.examiner is None:
        return ()
    ((_, counts),) = gate.examiner.count(gate.federation, gate.base, [candidate], gate.executor)
    return counts


def _after_failure(gate: Gate, state: RoundState, found: Evaluated) -> list[LeaderEvent]:
    """Find who harms, one step at a time, and reject them; where nobody can be named, the base is kept."""
    there = _there(state)
    own = tuple(one for one in found.counts if one.evaluator is None)
    kept = f"release {gate.base.release.release} stays the base"
    why = found.decision.reason
    if len(state.gating.evaluations) >= MAX_CANDIDATES:
        return [_abandon(f"{kept}: {MAX_CANDIDATES} candidates have failed at the gate, the last one as {why}")]
    if not own or not fails(gate.rules, own):
        return [_abandon(f"{kept}: {why}; no suite of the aggregator's own shows whose contribution it is")]
    outcome = blame(Suspects(rules=gate.rules, whole=own, tried=state.gating.tried, contributions=tuple(there)))
    if isinstance(outcome, Blame):
        if not outcome.harmful:
            return [_abandon(f"{kept}: {why}; {outcome.reason}")]
        return [_reject(gate, there, outcome)]
    try:
        return [*_try(gate, there, outcome[: max(gate.executor.num_workers, 1)])]
    except DamagedObjectError as error:  # who is admitted is asked for it again in the next round
        return [_abandon(f"{kept}: {why}; whose contribution it is cannot be looked for: {error}")]


def _try(gate: Gate, there: dict[str, Admission], subsets: Sequence[frozenset[str]]) -> list[Tried]:
    if gate.examiner is None:
        return []
    models = [tuple(there[digest] for digest in subset_of(subset)) for subset in subsets]
    counts = dict(gate.examiner.count(gate.federation, gate.base, models, gate.executor))
    return [
        Tried(contributions=subset_of(subset), counts=counts[index]) for index, subset in enumerate(subsets)
    ]  # fmt: skip


def _reject(gate: Gate, there: dict[str, Admission], found: Blame) -> Rejected:
    rejections = []
    for digest, why in sorted(found.harmful.items()):
        one = there[digest]
        rejections.append(Rejection(
            contribution=digest, contributor=one.contributor, display_name=one.display_name,
            reason=_bounded(f"left out by the gate: {why}; look at its data and labels before you send another"),
        ))  # fmt: skip
    return Rejected(rejections=tuple(rejections), elapsed_s=gate.age_s)


def _abandon(reason: str) -> Abandoned:
    return Abandoned(reason=_bounded(f"the gate: {reason}"))


def _bounded(text: str) -> str:
    return printable(text[:2000], instead=" ")
