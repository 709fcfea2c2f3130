"""Where the federation stands, as a gateway sees it, and what that means for people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.release import Channel
from coldfuse.core.round import RoundState, decide
from coldfuse.gateway.base import ContributionVerdict, Decision, RoundStatus
from coldfuse.gateway.single_flight import SingleFlight
from coldfuse.registry.federation import Federation

NUM_JOURNALS = 16
"""Journals that are kept read; older rounds are read again when somebody asks."""

MAX_NAMES = 100
"""Contributors named in the status; a round may have ten thousand."""


_HELD = "screened: sound, but long beside the others; whether it is too long is said when the round closes, or before"


@dataclass(frozen=True)
class Standing:
    """The latest release, and the round that continues it."""

    latest: Channel
    round: int
    state: RoundState
    abandoned: str | None = None
    """Why the round before made no release; None if it made one."""


class Rounds:
    """The journals of a federation, each read by one thread at a time."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._known_round = 1
        self._standing = SingleFlight(self._read_standing)
        self._state = lru_cache(maxsize=NUM_JOURNALS)(lambda number: SingleFlight(federation.journal(number).state))

    def standing(self) -> Standing:
        """Say which round is the current one, and how far it is."""
        return self._standing.get()

    def state(self, number: int, *, max_age_s: float = 0.0) -> RoundState:
        """Fold the journal of any round."""
        return self._state(number).get(max_age_s=max_age_s)

    def _read_standing(self) -> Standing:
        latest = self._federation.channel("latest")
        # Numbers of rounds only grow, so the search goes on where it ended; a race between threads costs a few reads.
        number = self._known_round = self._federation.current_round(at_least=self._known_round)
        before = self.state(number - 1).abandoned if number > latest.round + 1 else None
        return Standing(latest, number, self.state(number), abandoned=before.reason if before else None)


def describe_round(rules: RoundRules, standing: Standing, *, now_s: float) -> RoundStatus:
    """Sum a round up for people."""
    state = standing.state
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
        waits_for=explain_wait(rules, standing, now_s=now_s),
        display_names={name: shown for name in named if (shown := names[name]) is not None},
    )


def explain_change(settings: FederationSettings, standing: Standing) -> str | None:
    """Say what will be otherwise in the next round, where an operator has changed the rules since this one opened."""
    opened = standing.state.opened
    if opened is None or opened.terms is None or opened.terms == settings.terms:
        return None
    before, after = settings.under(opened.terms).changeable.in_words(), settings.changeable.in_words()
    changed = [f"{name} {before[name]} → {value}" for name, value in after.items() if value != before[name]]
    return f"from the next round on: {', '.join(changed)}"


def explain_wait(rules: RoundRules, standing: Standing, *, now_s: float) -> str:
    """Say what the round waits for."""
    state = standing.state
    if state.opened is None:
        return f"round {standing.round} waits for an aggregator to open it"
    if not state.is_open:
        count = len(state.closed.contributions) if state.closed else 0
        return f"round {standing.round} is closed; the aggregator fuses {count} contributions"
    age_s, carried = max(now_s - state.opened.opened_at_s, 0.0), len(state.carried)
    is_refused = state.is_refused
    _, reason = decide(rules, admitted=len(state.admitted), carried=carried, is_refused=is_refused, age_s=age_s)
    if standing.abandoned:
        reason += f" (round {standing.round - 1} was abandoned: {standing.abandoned})"
    return f"{reason}; {len(state.waiting)} not screened yet" if state.waiting else reason


def find_verdict(state: RoundState, contribution: str) -> ContributionVerdict | None:
    """Say what became of a contribution; None if the round never received it."""
    if rejection := state.rejected.get(contribution):
        decision, reason, is_late = Decision.REJECTED, rejection.reason, rejection.is_late
    elif admission := state.admitted.get(contribution):
        decision, reason, is_late = Decision.ADMITTED, admission.reason or _explain_admission(state), False
    elif contribution in state.held:
        decision, reason, is_late = Decision.PENDING, _HELD, False
    elif contribution in state.received:
        decision, reason, is_late = Decision.PENDING, "received; the aggregator has not screened it yet", False
    else:
        return None
    return ContributionVerdict(contribution=contribution, decision=decision, reason=reason, is_late=is_late)


def _explain_admission(state: RoundState) -> str:
    if state.published is not None:
        return f"fused into release {state.published.release}"
    if state.abandoned is not None:
        return "admitted; its round was abandoned, and it counts for the next one on the same base"
    return "admitted; it is fused when the round closes"
