"""Asking evaluators about a candidate: who may be asked, how they find it, and what they have said."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coldfuse.aggregator.at_gate import Gate
from coldfuse.aggregator.release import fuse_release
from coldfuse.core.contribution import Admission
from coldfuse.core.gate_asking import may_ask, missed_after, still_waits
from coldfuse.core.gate_rules import MAX_EVALUATORS, GateRules, SuiteCounts
from coldfuse.core.gating import Asked, Gating, Tried, subset_of
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import LeaderEvent, RoundState
from coldfuse.core.serialization import sha256
from coldfuse.errors import DamagedObjectError, FederationError, FusionError
from coldfuse.registry.channels import CANDIDATE
from coldfuse.registry.federation import Federation
from coldfuse.registry.releases import channel_to
from coldfuse.registry.scores import Waiting, asked_in, read_scores, waiting_of
from coldfuse.trust.members import MemberRole

_LOOKED_BACK = 20
"""Number of rounds back in which is looked for when evaluators were asked last."""


def members_of(federation: Federation, role: MemberRole) -> tuple[str, ...]:
    """Return the names of the members of this role, who are such now; none in federations without a root."""
    if federation.trust is None:
        return ()
    members, now_s = federation.trust.refresh().members.members, federation.now_s()
    names = [
        name
        for name, one in sorted(members.items())
        if one.role == role and one.revoked is None and now_s <= one.valid_until_s
    ]
    return tuple(names[:MAX_EVALUATORS])


def may_ask_now(federation: Federation, state: RoundState, rules: GateRules, *, number: int) -> bool:
    """Tell whether evaluators may be asked about one more candidate in a round, by how often they were of late.

    Args:
        federation: The federation.
        state: What the round's journal adds up to.
        rules: The rules of the round.
        number: The round's number.
    """
    asked = [number] * state.gating.num_asked
    for before in range(max(number - rules.per_rounds + 1, 1), number):
        asked += [before] * federation.journal(before).led().gating.num_asked
    return may_ask(rules, asked, round_number=number)[0]


def point_to(federation: Federation, candidate: ReleaseManifest) -> None:
    """Have the channel `candidate` point to a candidate; doing so again is success.

    Raises:
        ConflictError: Another aggregator has written it meanwhile.
        NotAllowedError: This aggregator may not sign it.
    """
    target = channel_to(candidate)
    federation.require_signer()
    signer = federation.signer.aggregator if federation.signer else None
    try:
        there = federation.pointers.read(CANDIDATE, forgives=True)
    except FederationError:
        federation.pointers.write(CANDIDATE, target, None, signer)
        return
    if there.channel.manifest != target.manifest or there.is_damaged:
        federation.pointers.write(CANDIDATE, target, there, signer)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was said of a candidate, once nobody is waited for any more."""

    counts: tuple[SuiteCounts, ...]
    words: tuple[str, ...]
    """SHA-256 of what was signed."""
    num_silent: int
    """Number of evaluators who have not answered."""


def ask(
    gate: Gate, state: RoundState, candidate: ReleaseManifest, manifest: str, *, contributions: tuple[str, ...] = ()
) -> Asked:
    """Have the evaluators find a candidate; returns the entry that says so. Raises as `point_to`."""
    point_to(gate.federation, candidate)
    evaluators = members_of(gate.federation, "evaluator")
    missed = missed_so_far(gate, state, evaluators)
    return Asked(
        manifest=manifest, evaluators=evaluators, contributions=contributions, elapsed_s=gate.age_s,
        missed=missed or None,
    )  # fmt: skip


def missed_so_far(gate: Gate, state: RoundState, evaluators: Collection[str]) -> dict[str, int]:
    """Return how many rounds in a row evaluators have left unanswered, of those who have: as journals say.

    Args:
        gate: The gate.
        state: What the round's journal adds up to: who was asked in it already is counted as then, unless it has
            answered since.
        evaluators: Who is about to be asked.
    """
    federation, rules = gate.federation, gate.rules
    if rules.max_missed is None or federation.trust is None:
        return {}
    if state.gating.asked is not None:
        there, answered = state.gating.asked.missed or {}, state.gating.answered
        return {name: there[name] for name in sorted(evaluators) if name in there and name not in answered}
    for number in range(gate.number - 1, max(gate.number - _LOOKED_BACK, 1) - 1, -1):
        before = federation.journal(number).led()
        if (waiting := asked_in(number, before)) is not None:
            missed = _missed_since(gate, before.gating, waiting)
            return {name: count for name, count in missed.items() if name in evaluators}
    return {}


def _missed_since(gate: Gate, before: Gating, waiting: Waiting) -> Mapping[str, int]:
    """Return how many rounds in a row evaluators have left unanswered after one in which they were asked."""
    federation, asked, answered = gate.federation, before.asked, before.answered
    if asked is None or federation.trust is None:
        return {}
    silent = set(asked.evaluators) - answered
    said = read_scores(federation.store, federation.trust, silent, waiting=waiting, now_s=federation.now_s())
    came_late = {word.score.member for word in said}
    if before.of(asked.manifest) is None and frozenset(asked.contributions) not in before.heard:
        # It ended while they were waited for, by a rollback say: nobody has left it unanswered.
        return {name: count for name, count in (asked.missed or {}).items() if name not in answered | came_late}
    return missed_after(
        asked.missed or {}, asked=asked.evaluators, answered=answered, came_late=came_late, rules=gate.rules
    )


def answers(gate: Gate, state: RoundState) -> Answers | None:
    """Return what those who were asked last have said, and operators who were not; None while some are waited for."""
    federation, asked, waiting = gate.federation, state.gating.asked, waiting_of(gate.number, state)
    if federation.trust is None or asked is None or waiting is None:
        return None
    there = set(asked.evaluators) & set(members_of(federation, "evaluator"))  # who was revoked is not
    awaited = there & asked.awaited(gate.rules)
    names = {*asked.evaluators, *members_of(federation, "operator")}
    words = read_scores(federation.store, federation.trust, names, waiting=waiting, now_s=federation.now_s())
    answered = there & {word.score.member for word in words}
    age_s = gate.age_s - (asked.elapsed_s or 0.0)
    if still_waits(gate.rules, answered=len(answered & awaited), enrolled=len(awaited), age_s=age_s)[0]:
        return None
    for word in words:
        federation.objects.put(sha256(word.envelope), word.envelope)
    return Answers(
        counts=tuple(one for word in words for one in word.score.counts),
        words=tuple(sha256(word.envelope) for word in words), num_silent=len(there) - len(answered),
    )  # fmt: skip


def suspects_in_order(admissions: Iterable[Admission]) -> list[str]:
    """Return the digests of contributions, those first whose deltas are longest: they have changed most."""
    ordered = sorted(admissions, key=lambda a: (-(a.measured.norm if a.measured else 0.0), a.contribution))
    return [admission.contribution for admission in ordered]


def ask_about(gate: Gate, state: RoundState, admissions: Sequence[Admission]) -> list[LeaderEvent] | None:
    """Ask evaluators about a model of some of the contributions, one step at a time.

    Args:
        gate: The gate.
        state: What the round's journal adds up to.
        admissions: What the model is fused of.

    Returns:
        What is to be appended, nothing while evaluators are waited for; None where they cannot be asked about it.
    """
    contributions, asked = subset_of(a.contribution for a in admissions), state.gating.asked
    if asked is not None and asked.contributions == contributions:
        found = answers(gate, state)
        if found is None:
            return []
        own = gate.examined(gate.federation.objects.get_value(ReleaseManifest, asked.manifest))
        return [Tried(
            contributions=contributions, counts=(*own, *found.counts), manifest=asked.manifest, words=found.words
        )]  # fmt: skip
    if not admissions or not may_ask_now(gate.federation, state, gate.rules, number=gate.number):
        return None
    try:
        candidate = fuse_release(
            gate.federation, gate.base, admissions, gate.executor, round_number=gate.number, now_s=gate.now_s
        )
    except (FusionError, DamagedObjectError):
        return None
    manifest = gate.federation.objects.put_value(candidate)
    return [ask(gate, state, candidate, manifest, contributions=contributions)]
