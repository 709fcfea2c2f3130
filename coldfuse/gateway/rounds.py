"""Where the federation stands, as a gateway sees it, and what that means for people."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from coldfuse.core.closing import RoundFacts, decide, end_s, facts_of
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.gate_asking import describe_absent, still_waits
from coldfuse.core.release import Channel
from coldfuse.core.round import RoundState
from coldfuse.core.words import plural, printable
from coldfuse.gateway.answers import ContributionVerdict, Decision, RoundStatus
from coldfuse.gateway.single_flight import SingleFlight
from coldfuse.registry.enrolled import with_enrolled
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.round_clock import RoundClock
from coldfuse.registry.scores import Waiting, asked_in, waiting_of, who_has_answered

NUM_JOURNALS = 16
"""Journals of older rounds that are kept read; others are read again when somebody asks."""

_NUM_CONTRIBUTORS = 4096
"""Contributions of which it is known whose they are."""

MAX_NAMES = 100
"""Contributors named in the status; a round may have ten thousand."""

STANDING_AGE_S = 0.5
"""Largest age of what is known of the current round when a contribution is checked against it. What an old look lets
through, the last look at the journal refuses; what it refuses is looked at again."""


_HELD = "screened: sound, but long beside the others; whether it is too long is said when the round closes, or before"


@dataclass(frozen=True)
class Standing:
    """The latest release, and the round that continues it."""

    latest: Channel
    round: int
    state: RoundState
    abandoned: str | None = None
    """Why the round before made no release; None if it made one."""
    age_s: float = 0.0
    """Seconds since the round was opened, as far as the gateway and the round's journal know."""
    answered: frozenset[str] = frozenset()
    """Evaluators who have said something of the candidate that waits for them."""

    def facts(self, rules: RoundRules) -> RoundFacts | None:
        """Return what the decision on the round follows from; None unless it is open."""
        if self.state.opened is None or not self.state.is_open:
            return None
        return facts_of(self.state, self.state.opened, rules, age_s=self.age_s)


class _Reading:
    """One round's journal, read by one thread at a time: all of it, or the leader's entries alone."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.state = SingleFlight(lambda: journal.state(max_age_s=None))
        self.led = SingleFlight(journal.led)


class Rounds:
    """The journals of a federation, as gateways read them.

    What a contribution or a verdict asks costs the same however many contributions there are: the leader's entries
    alone tell which round is open and what was decided. Only a status counts what was received.
    """

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._known_round = 1
        self._clock: tuple[int, RoundClock] = 1, RoundClock()
        self._standing = SingleFlight(self._read_standing)
        self._current = SingleFlight(self._read_current)
        self._newest: dict[int, _Reading] = {}  # the current round and the one before: no question throws them out
        self._contributor_of = lru_cache(maxsize=_NUM_CONTRIBUTORS)(
            lambda digest: federation.objects.get_value(ContributionManifest, digest).contributor
        )
        self._older = lru_cache(maxsize=NUM_JOURNALS)(lambda number: _Reading(federation.journal(number)))

    def standing(self) -> Standing:
        """Say which round is the current one, and how far it is."""
        return self._standing.get()

    def current(self, *, max_age_s: float = 0.0) -> Standing:
        """Say which round is the current one, from its leader's entries: `received` stays empty."""
        return self._current.get(max_age_s=max_age_s)

    def state(self, number: int, *, max_age_s: float = 0.0) -> RoundState:
        """Fold the journal of any round."""
        return self._reading(number).state.get(max_age_s=max_age_s)

    def led(self, number: int, *, max_age_s: float = 0.0) -> RoundState:
        """Fold the leader's entries in the journal of any round: `received` stays empty."""
        return self._reading(number).led.get(max_age_s=max_age_s)

    def weighed(self, number: int) -> str | None:
        """Say how the weights by score of a round that is over were found; None where nobody asked for them."""
        state = self.led(number, max_age_s=math.inf) if number else RoundState()
        found = (state if state.is_over or not number else self.led(number)).gating.weighed
        return None if found is None else printable(found.reason)

    def contributor_of(self, number: int, contribution: str) -> str | None:
        """Return whose a contribution is that a round has received; None if it has received no such."""
        state = self.led(number, max_age_s=STANDING_AGE_S)
        decided = state.admitted.get(contribution) or state.rejected.get(contribution)
        if decided is not None:
            return decided.contributor
        if not self.journal(number).has_received(contribution):
            return None
        return self._contributor_of(contribution)

    def waiting_candidate(self) -> Waiting | None:
        """Return the candidate that waits for evaluators, by the newest of the leader's entries; None if none does."""
        now = self.current()
        return waiting_of(now.round, now.state)

    def missed_candidate(self) -> Waiting | None:
        """Return the last candidate that evaluators were asked about, in this round or the one before; None if none.

        Only where the rules look at who is there.
        """
        now = self.current()
        rounds = ((now.round, now.state), (now.round - 1, self.led(now.round - 1) if now.round > 1 else RoundState()))
        found = next((each for number, state in rounds if (each := asked_in(number, state)) is not None), None)
        return found if found is not None and found.rules.max_missed is not None else None

    def journal(self, number: int) -> Journal:
        """Return the journal of any round, with what was read of it."""
        return self._reading(number).journal

    def _reading(self, number: int) -> _Reading:
        return self._newest.get(number) or self._older(number)

    def _read_standing(self) -> Standing:
        now = self.current()
        waiting = waiting_of(now.round, now.state)
        answered = frozenset[str]() if waiting is None else who_has_answered(self._federation.store, waiting)
        state = self.state(now.round)
        if state.opened is not None and state.is_open:
            state = replace(state, opened=with_enrolled(self._federation, state.opened))
        return replace(now, state=state, answered=answered)

    def _read_current(self) -> Standing:
        latest = self._federation.channel("latest")
        # Numbers of rounds only grow, so the search goes on where it ended; a race between threads costs a few reads.
        number = self._keep(max(latest.last_round + 1, self._known_round))
        state = self.led(number)
        if state.abandoned:
            number = self._keep(self._federation.current_round(at_least=number))
            state = self.led(number)
        is_after_step = latest.rollback is not None and latest.rollback.round == number - 1
        before = self.led(number - 1).abandoned if number > latest.last_round + 1 or is_after_step else None
        if number != self._clock[0]:
            self._clock = number, RoundClock()
        age_s = self._clock[1].age_s(state) if state.opened else 0.0
        return Standing(latest, number, state, abandoned=before.reason if before else None, age_s=age_s)

    def _keep(self, number: int) -> int:
        """Keep the readings of this round, the current one, and of the one before."""
        if number not in self._newest:
            self._newest = {kept: self._reading(kept) for kept in (number - 1, number)}
        self._known_round = number
        return number


def describe_round(rules: RoundRules, standing: Standing) -> RoundStatus:
    """Sum a round up for people."""
    state, facts = standing.state, standing.facts(rules)
    ends_s = end_s(rules, facts) if facts else math.inf
    names = {r.contributor: r.display_name for r in state.received.values()}
    names |= {a.contributor: a.display_name for a in state.admitted.values()}
    named = sorted(names)[:MAX_NAMES]
    return RoundStatus(
        number=standing.round,
        is_open=state.is_open,
        num_received=len(state.received),
        num_admitted=len(state.admitted),
        num_rejected=len(state.rejected),
        contributors=tuple(named),
        waits_for=explain_wait(rules, standing),
        display_names={name: shown for name in named if (shown := names[name]) is not None},
        num_active=facts.active if facts else None,
        num_missing=facts.missing if facts else None,
        left_s=max(ends_s - facts.age_s, 0.0) if facts and ends_s < math.inf else None,
    )


def explain_change(settings: FederationSettings, standing: Standing) -> str | None:
    """Say what will be otherwise in the next round, where an operator has changed the rules since this one opened."""
    opened = standing.state.opened
    if opened is None or opened.terms is None or opened.terms == settings.terms:
        return None
    before, after = settings.under(opened.terms).changeable.in_words(), settings.changeable.in_words()
    changed = [
        f"{name} {before.get(name, '-')} → {value}" for name, value in after.items() if value != before.get(name)
    ]
    return f"from the next round on: {', '.join(changed)}"


def explain_wait(rules: RoundRules, standing: Standing) -> str:
    """Say what the round waits for."""
    state, facts = standing.state, standing.facts(rules)
    if state.opened is None:
        return f"round {standing.round} waits for an aggregator to open it"
    if state.opened.retraction is not None:
        return (
            f"round {standing.round} takes no contributions: what was retracted is taken out, and the rounds since are "
            "fused again; the next round opens on what comes of it"
        )
    if facts is None:
        return _explain_end(standing)
    _, reason = decide(rules, facts)
    if standing.abandoned:
        reason += f" (round {standing.round - 1} was abandoned: {standing.abandoned})"
    return f"{reason}; {len(state.waiting)} not screened yet" if state.waiting else reason


def _explain_end(standing: Standing) -> str:
    """Say what a round that is closed waits for."""
    state = standing.state
    closed = state.closed.contributions if state.closed else ()
    count = sum(digest in state.admitted for digest in closed)
    weighting = state.opened.terms.weighting if state.opened is not None and state.opened.terms is not None else None
    if state.fused is None and weighting not in (None, "none") and state.gating.weighed is None:
        num = len(state.gating.scored)
        scored = f"{plural(count, 'contribution')} ({num} models so far)"
        return f"round {standing.round} is closed; the aggregator scores {scored}"
    if state.fused is None or state.has_passed:
        return f"round {standing.round} is closed; the aggregator fuses {plural(count, 'contribution')}"
    if (waiting := waiting_of(standing.round, state)) is not None and state.gating.asked is not None:
        asked, age_s = state.gating.asked, standing.age_s - (state.gating.asked.elapsed_s or 0.0)
        own = bool(state.gating.tried.get(frozenset(d for d in closed if d in state.admitted)))
        awaited = asked.awaited(waiting.rules)
        _, why = still_waits(
            waiting.rules, answered=len(standing.answered & awaited) + own, enrolled=len(awaited) + own, age_s=age_s
        )
        absent = describe_absent(waiting.rules, asked.missed or {})
        return f"the candidate of round {standing.round} waits for evaluators: {why}{'; ' if absent else ''}{absent}"
    if state.gating.has_failed(state.fused.manifest):
        return f"round {standing.round} has failed at the gate; the aggregator looks for whose contribution it is"
    return f"round {standing.round} has fused {count} contributions; the gate evaluates what came of it"


def find_verdict(state: RoundState, contribution: str) -> ContributionVerdict | None:
    """Say what became of a contribution; None if the round never received it."""
    if rejection := state.rejected.get(contribution):
        decision, reason, is_late = Decision.REJECTED, rejection.reason, rejection.is_late
    elif admission := state.admitted.get(contribution):
        decision, reason, is_late = Decision.ADMITTED, _reason_of(state, admission), False
    elif contribution in state.held:
        decision, reason, is_late = Decision.PENDING, _HELD, False
    elif contribution in state.received:
        return pending(contribution)
    else:
        return None
    return ContributionVerdict(contribution=contribution, decision=decision, reason=reason, is_late=is_late)


def pending(contribution: str) -> ContributionVerdict:
    """Say that a contribution was received and has no verdict yet."""
    reason = "received; the aggregator has not screened it yet"
    return ContributionVerdict(contribution=contribution, decision=Decision.PENDING, reason=reason)


def _reason_of(state: RoundState, admission: Admission) -> str:
    reason = admission.reason or _explain_admission(state)
    factor = state.weighed(admission.contribution).score_weight
    reason += "" if factor is None else f"; its weight ×{factor:.3g}, by its score on the operator's suites"
    if admission.base_release is None or state.opened is None:
        return reason
    weight = state.opened.rules.weight_of(state.opened.base_release - admission.base_release)
    return f"{reason}; made on release {admission.base_release}, it counts ×{weight:g} on {state.opened.base_release}"


def _explain_admission(state: RoundState) -> str:
    if state.published is not None:
        return f"fused into release {state.published.release}"
    if state.abandoned is not None:
        return "admitted; its round was abandoned, and it counts for the next one on the same base"
    return "admitted; it is fused when the round closes"
