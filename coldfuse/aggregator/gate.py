"""The gate of a round: what was fused is published, or fused again without what harms, or the base is kept.

Everything is one entry after the other (`core.gating`): the counts of the candidate and the decision on it; the counts
of models without some of the contributions; the rejections of those that harm. A leader that takes over goes on from
the last of them. Scores are the same whoever computes them, so it comes to the same release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coldfuse.aggregator.asking import answers, ask, ask_about, may_ask_now, members_of, suspects_in_order
from coldfuse.aggregator.at_gate import Gate
from coldfuse.aggregator.blaming import Blame, Suspects, blame, fails
from coldfuse.aggregator.model import Base
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.gate import decide
from coldfuse.core.gate_counts import believe
from coldfuse.core.gate_edits import edits_of, judge_edits, suite_of
from coldfuse.core.gate_rules import GateDecision, SuiteCounts
from coldfuse.core.gating import Evaluated, Tried, subset_of
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Abandoned, Fused, LeaderEvent, Rejected, RoundState
from coldfuse.core.words import plural, printable
from coldfuse.errors import DamagedObjectError
from coldfuse.registry.federation import Federation

MAX_CANDIDATES = 5
"""Number of times that a round is fused at most: after so many refusals the base is kept."""

_LOOK = "look at its data and labels before you send another"
_EDIT_AGAIN = (
    "train it longer, or send it to a round with fewer others: by a mean each of several keeps but a part of its change"
)


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


def fused_before(federation: Federation, state: RoundState) -> Fused | None:
    """Return the candidate that is to be fused, where evaluators were asked about it: it is that very one."""
    heard = state.gating.heard.get(frozenset(state.to_fuse))
    if heard is None or heard.manifest is None:
        return None
    try:
        candidate = federation.objects.get_value(ReleaseManifest, heard.manifest)
    except DamagedObjectError:
        return None
    return Fused(manifest=heard.manifest, model_digest=candidate.model_digest, moved=candidate.moved)


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
    everybody = frozenset(state.to_fuse)
    if (heard := state.gating.heard.get(everybody)) is not None:  # they were asked when it was found who harms
        return [_decided(gate, state, fused, heard.counts, words=heard.words)]
    if not evaluators:
        return [_decided(gate, state, fused, gate.examined(candidate))]
    own = state.gating.tried.get(everybody, ())
    if not own and (own := gate.examined(candidate)):
        return [Tried(contributions=subset_of(everybody), counts=own)]
    if fails(gate.rules, own) or _has_failing_edit(gate, state, own):
        return [_decided(gate, state, fused, own)]
    if state.gating.asked is None or state.gating.asked.manifest != fused.manifest:
        if not may_ask_now(gate.federation, state, gate.rules, number=gate.number):
            return [_decided(gate, state, fused, own, num_silent=len(evaluators))]
        return [ask(gate, state, candidate, fused.manifest)]
    found = answers(gate, state)
    if found is None:
        return []
    counts = (*own, *found.counts)
    return [_decided(gate, state, fused, counts, words=found.words, num_silent=found.num_silent)]


def _decided(
    gate: Gate,
    state: RoundState,
    fused: Fused,
    counts: tuple[SuiteCounts, ...],
    *,
    words: tuple[str, ...] = (),
    num_silent: int = 0,
) -> Evaluated:
    edits = edits_of(state.to_fuse.values())
    decision = decide(gate.rules, counts, num_silent=num_silent, edits=edits)
    return Evaluated(manifest=fused.manifest, counts=counts, decision=decision, words=words)


def _has_failing_edit(gate: Gate, state: RoundState, own: Sequence[SuiteCounts]) -> bool:
    """Tell whether the operator's own suites show that an edit fails, so that nobody else has to be asked."""
    judged = {each.suite for each in own}
    edits = [name for name in edits_of(state.to_fuse.values()) if suite_of(name, "edit") in judged]
    return any(not each.succeeds for each in judge_edits(gate.rules, believe(own, gate.rules)[0], edits))


def _after_failure(gate: Gate, state: RoundState, found: Evaluated) -> list[LeaderEvent]:
    """Find who harms, one step at a time, and reject them; where nobody can be named, the base is kept."""
    there = state.to_fuse
    own = tuple(one for one in found.counts if one.evaluator is None)
    kept = f"release {gate.base.release.release} stays the base"
    why = found.decision.reason
    if len(state.gating.evaluations) >= MAX_CANDIDATES:
        return [_abandon(f"{kept}: {MAX_CANDIDATES} candidates have failed at the gate, the last one as {why}")]
    if found.decision.finding == "edit-fails":
        return [_reject(gate, there, _failed_edits(gate, there, found), then=_EDIT_AGAIN)]
    if found.decision.finding not in ("worse", "not-better"):  # too few have answered, or too little is known
        return [_abandon(f"{kept}: {why}")]
    if not own or not fails(gate.rules, own):
        return _by_asking(gate, state, found, f"{kept}: {why}")
    outcome = blame(Suspects(rules=gate.rules, whole=own, tried=state.gating.tried, contributions=tuple(there)))
    if isinstance(outcome, Blame):
        if not outcome.harmful:
            return [_abandon(f"{kept}: {why}; {outcome.reason}")]
        return [_reject(gate, there, outcome)]
    try:
        return [*_try(gate, there, outcome[: max(gate.executor.num_workers, 1)])]
    except DamagedObjectError as error:  # who is admitted is asked for it again in the next round
        return [_abandon(f"{kept}: {why}; whose contribution it is cannot be looked for: {error}")]


def _failed_edits(gate: Gate, there: Mapping[str, Admission], found: Evaluated) -> Blame:
    """Name the contributions whose edits do not do what they are for: they say themselves which these are."""
    heard, _ = believe(found.counts, gate.rules)
    failed = {
        each.name: each.reason for each in judge_edits(gate.rules, heard, edits_of(there.values())) if not each.succeeds
    }
    return Blame({digest: failed[one.edit] for digest, one in there.items() if one.edit in failed})


def _by_asking(gate: Gate, state: RoundState, found: Evaluated, why: str) -> list[LeaderEvent]:
    """Find who harms by what evaluators alone notice: they are asked about models without one contribution each."""
    there = state.to_fuse
    for digest in suspects_in_order(there.values()):
        subset = frozenset(there) - {digest}
        if (heard := state.gating.heard.get(subset)) is None:
            step = ask_about(gate, state, [there[each] for each in subset_of(subset)])
            if step is not None:
                return step
            continue
        if _is_cleared(gate, found, heard):
            blamed = Blame({digest: "evaluators find harm in what is fused with it, and none in the rest"})
            return [_reject(gate, there, blamed)]
    return [_abandon(f"{why}; whose contribution it is the evaluators could not be asked, or did not see")]


def _is_cleared(gate: Gate, whole: Evaluated, heard: Tried) -> bool:
    """Tell whether what is left passes by the words of the very members who saw the harm, and not by their silence."""
    again = {one.evaluator for one in heard.counts}
    seen = [one for one in whole.counts if one.evaluator in again]
    rest = decide(gate.rules, heard.counts)
    passed = rest.finding in ("not-worse", "better") or _would_be_seen(whole.decision, rest)
    return passed and decide(gate.rules, seen).finding in ("worse", "not-better")


def _would_be_seen(whole: GateDecision, rest: GateDecision) -> bool:
    """Tell whether a loss like that of the whole would be seen in what is left, though smaller ones would not.

    Who has few examples, as of a back door, can see a large loss and never be sure that there is none at all.
    """
    lost = -whole.difference if whole.difference is not None else 0.0
    return rest.finding == "unsure" and rest.visible is not None and rest.visible <= lost


def _try(gate: Gate, there: dict[str, Admission], subsets: Sequence[frozenset[str]]) -> list[Tried]:
    if gate.examiner is None:
        return []
    models = [tuple(there[digest] for digest in subset_of(subset)) for subset in subsets]
    counts = dict(gate.examiner.count(gate.federation, gate.base, models, gate.executor))
    return [
        Tried(contributions=subset_of(subset), counts=counts[index]) for index, subset in enumerate(subsets)
    ]  # fmt: skip


def _reject(gate: Gate, there: dict[str, Admission], found: Blame, *, then: str = _LOOK) -> Rejected:
    rejections = []
    for digest, why in sorted(found.harmful.items()):
        one = there[digest]
        rejections.append(Rejection(
            contribution=digest, contributor=one.contributor, display_name=one.display_name,
            reason=_bounded(f"left out by the gate: {why}; {then}"),
        ))  # fmt: skip
    return Rejected(rejections=tuple(rejections), elapsed_s=gate.age_s)


def _abandon(reason: str) -> Abandoned:
    return Abandoned(reason=_bounded(f"the gate: {reason}"))


def _bounded(text: str) -> str:
    return printable(text[:2000], instead=" ")
