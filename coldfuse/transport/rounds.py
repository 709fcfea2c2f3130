"""Where the federation stands, as a gateway sees it, and what that means for people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from coldfuse.core.federation import RoundRules
from coldfuse.core.release import Channel
from coldfuse.core.round import RoundState, decide
from coldfuse.registry.federation import Federation
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.shared import Shared

NUM_JOURNALS = 16
"""Journals that are kept read; older rounds are read again when somebody asks."""

MAX_NAMES = 100
"""Contributors named in the status; a round may have ten thousand."""

CALLS_PER_S = 500.0
"""How many status calls a gateway wants to answer at most."""

MIN_POLL_S, MAX_POLL_S = 0.5, 60.0


@dataclass(frozen=True)
class Standing:
    """The latest release, and the round that continues it."""

    latest: Channel
    round: int
    state: RoundState
    abandoned: str | None = None
    """Why the round before made no release."""


class Rounds:
    """The journals of a federation, each read by one thread at a time."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._known_round = 1
        self._standing = Shared(self._read_standing)
        self._state = lru_cache(maxsize=NUM_JOURNALS)(lambda number: Shared(federation.journal(number).state))

    def standing(self, *, max_age_s: float = 0.0) -> Standing:
        """Say which round is the current one, and how far it is."""
        return self._standing.get(max_age_s=max_age_s)

    def state(self, number: int, *, max_age_s: float = 0.0) -> RoundState:
        """Fold the journal of any round."""
        return self._state(number).get(max_age_s=max_age_s)

    def _read_standing(self) -> Standing:
        latest = self._federation.channel("latest")
        self._known_round = self._federation.current_round(at_least=self._known_round)
        number = self._known_round
        before = self.state(number - 1).abandoned if number > latest.round + 1 else None
        return Standing(latest, number, self.state(number), abandoned=before.reason if before else None)


def explain(rules: RoundRules, standing: Standing, *, now_s: float) -> str:
    """Say what the round waits for."""
    state = standing.state
    if state.opened is None:
        return f"round {standing.round} waits for an aggregator to open it"
    if not state.is_open:
        count = len(state.closed.contributions) if state.closed else 0
        return f"round {standing.round} is closed; the aggregator fuses {count} contributions"
    age_s, carried = max(now_s - state.opened.opened_at_s, 0.0), len(state.opened.carried)
    _, reason = decide(rules, admitted=len(state.admitted), carried=carried, age_s=age_s)
    if standing.abandoned:
        reason += f" (round {standing.round - 1} was abandoned: {standing.abandoned})"
    return f"{reason}; {len(state.waiting)} not screened yet" if state.waiting else reason


def describe(rules: RoundRules, standing: Standing, *, now_s: float) -> pb.Round:
    """Put a round into the words of the wire."""
    state = standing.state
    names = {r.contributor for r in state.received.values()} | {a.contributor for a in state.admitted.values()}
    return pb.Round(
        number=standing.round,
        is_open=state.is_open,
        num_received=len(state.received),
        num_admitted=len(state.admitted),
        num_rejected=len(state.rejected),
        contributors=sorted(names)[:MAX_NAMES],
        waits_for=explain(rules, standing, now_s=now_s),
    )


def pace(poll_s: float, *, calls_per_s: float) -> float:
    """Return how many seconds to ask callers to wait, from how often they call while they are asked for `poll_s`.

    >>> pace(0.5, calls_per_s=20.0), pace(0.5, calls_per_s=20_000.0), pace(20.0, calls_per_s=500.0)
    (0.5, 20.0, 20.0)
    """
    num_callers = calls_per_s * poll_s
    return min(max(num_callers / CALLS_PER_S, MIN_POLL_S), MAX_POLL_S)


def judge(state: RoundState, contribution: str) -> pb.Verdict | None:
    """Say what became of a contribution; None if the round never received it."""
    if rejection := state.rejected.get(contribution):
        return pb.Verdict(decision=pb.DECISION_REJECTED, reason=rejection.reason, is_late=rejection.is_late)
    if admission := state.admitted.get(contribution):
        return pb.Verdict(decision=pb.DECISION_ADMITTED, reason=admission.reason or _outcome(state))
    if contribution in state.received:
        return pb.Verdict(decision=pb.DECISION_PENDING, reason="received; the aggregator has not screened it yet")
    return None


def _outcome(state: RoundState) -> str:
    if state.published is not None:
        return f"fused into release {state.published.release}"
    if state.abandoned is not None:
        return "admitted; its round was abandoned, and it counts for the next one on the same base"
    return "admitted; it is fused when the round closes"
