"""When a round closes: pure rules on what a look at it has found, with their reasons.

An age is a number of seconds since the round was opened, by the clock of who looks. At a certain age a round ends: its
deadline, or, once it has its quorum, the end of its grace. What was found until then is screened before the round is
closed or abandoned; what came later waits, so that nobody can keep a round open by sending to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from coldfuse.core.federation import RoundRules
from coldfuse.core.past import usual_end_s
from coldfuse.core.round import Opened, RoundState

_PATIENCE = 1.5
"""An active contributor is waited for by so many times what it usually takes."""


class RoundAction(Enum):
    """What to do with an open round now."""

    WAIT = "wait"
    FUSE = "fuse"
    ABANDON = "abandon"


@dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """What the decision on an open round follows from."""

    admitted: int
    """Number of admitted contributions, with the carried ones."""
    age_s: float
    """Seconds since the round was opened."""
    carried: int = 0
    """Number of those that an abandoned round before has left."""
    is_refused: bool = True
    """False where nothing has refused the carried ones: they were too few for the rules of that round, or its method
    was another."""
    by_gate: bool = False
    """True where it is the gate that would refuse them."""
    unscreened: int = 0
    """Number of contributors of whom something that came in time is not screened yet."""
    active: int = 0
    """Number of contributors who have contributed lately."""
    missing: int = 0
    """Number of those of whom nothing has come to this round."""
    ends_s: float = 0.0
    """Age at which the round ends once it has its quorum, see `grace_end_s`."""
    given_up_s: float | None = None
    """Age at which it ends without its quorum; None: its deadline."""

    @property
    def is_idle(self) -> bool:
        """True where nothing new was admitted: to open the same round again would gain nothing."""
        return self.admitted == self.carried


def facts_of(state: RoundState, opened: Opened, rules: RoundRules, *, age_s: float) -> RoundFacts:
    """Return what the decision on an open round follows from.

    Args:
        state: The round, with what came in time.
        opened: How it began.
        rules: The rules by which it closes.
        age_s: Seconds since it was opened.
    """
    served = {admission.contributor for admission in state.admitted.values()}
    waiting = {received.contributor for received in state.waiting} - served
    # Who was held has come, and can send nothing else; whether it is too long is said when the round ends.
    come = served | {admission.contributor for admission in state.held.values()}
    if rules.close == "all":  # who was refused has come, too
        come |= {rejection.contributor for rejection in state.rejected.values()}
    awaited = [one for one in opened.active if one.contributor not in come]
    # What has come and is not screened yet is waited for, too: else the last one to come would end the round before it.
    patience_s = max((_PATIENCE * (one.usual_s or 0.0) for one in awaited), default=0.0)
    if rules.close == "all" and awaited:
        patience_s = math.inf
    first_s = min(state.came_s.values(), default=0.0)  # a round that nobody came to has its deadline from there on
    return RoundFacts(
        admitted=len(state.admitted), age_s=age_s, carried=len(state.carried), is_refused=state.is_refused,
        by_gate=opened.refused_gate is not None,
        unscreened=len(waiting), active=len(opened.active),
        missing=sum(one.contributor not in waiting for one in awaited),
        ends_s=grace_end_s(rules, opened, patience_s=patience_s),
        given_up_s=rules.deadline_s + (first_s if first_s >= rules.deadline_s else 0.0),
    )  # fmt: skip


def grace_end_s(rules: RoundRules, opened: Opened, *, patience_s: float) -> float:
    """Return the age at which a round with a quorum ends; 0: at once.

    Args:
        rules: Its rules.
        opened: How it began, with what it knows of past rounds.
        patience_s: Age until which those are waited for who have not come.
    """
    wanted = {
        "quorum": 0.0,
        "active": patience_s,
        "all": patience_s,
        "grace": usual_end_s(opened.past, spread=rules.spread) or 0.0,  # of too few rounds: the operator's minimum
    }[rules.close]
    return min(max(wanted, rules.grace_s), rules.longest_grace_s)


def end_s(rules: RoundRules, facts: RoundFacts) -> float:
    """Return the age at which the round ends, as things stand: what comes later is not screened for it."""
    if facts.is_idle and (facts.is_refused or facts.admitted < rules.quorum):
        return math.inf  # it waits for whatever comes
    if facts.admitted >= rules.quorum:
        return facts.ends_s
    return rules.deadline_s if facts.given_up_s is None else facts.given_up_s


def in_time(
    state: RoundState, opened: Opened, rules: RoundRules, *, age_s: float, found_s: Mapping[str, float]
) -> RoundState:
    """Return a round with what came before its end, as things stand, and in the order of its leader's clock.

    Args:
        state: The round with all that came.
        opened: How it began.
        rules: The rules by which it closes.
        age_s: Seconds since it was opened.
        found_s: Age of the round at which each contribution was found.
    """
    return state.found(found_s, until_s=end_s(rules, facts_of(state, opened, rules, age_s=age_s)))


def decide(rules: RoundRules, facts: RoundFacts) -> tuple[RoundAction, str]:
    """Decide what to do with an open round.

    Args:
        rules: When a round closes.
        facts: What was found when it was looked at.

    Returns:
        What to do, and the reason for people.
    """
    admitted, carried, quorum = facts.admitted, facts.carried, rules.quorum
    if facts.is_refused and admitted == carried >= quorum:  # the method would refuse them once more
        refused = f"{'gate' if facts.by_gate else 'method'} refused the {carried} contributions from before"
        return RoundAction.WAIT, f"the {refused}; more may change that"
    if admitted >= quorum:
        return _close(rules, facts)
    if facts.is_idle:
        have = f"{carried} of {quorum} contributions from before" if carried else "no contribution yet"
        return RoundAction.WAIT, f"{have}, {quorum} make the quorum"
    left_s = end_s(rules, facts) - facts.age_s
    if left_s > 0:
        return RoundAction.WAIT, f"{admitted} of {quorum} contributions, {_left(left_s)} left"
    if admitted + facts.unscreened >= quorum:
        return RoundAction.WAIT, f"deadline passed; {facts.unscreened} that came in time are screened first"
    return RoundAction.ABANDON, f"deadline passed with {admitted} of {quorum} contributions"


def _close(rules: RoundRules, facts: RoundFacts) -> tuple[RoundAction, str]:
    """Decide on a round that has its quorum."""
    reached = f"quorum reached: {facts.admitted} of {rules.quorum} contributions"
    left_s = facts.ends_s - facts.age_s
    if left_s > 0:
        missing = f", {facts.missing} of {facts.active} active have not come" if facts.active else ""
        return RoundAction.WAIT, f"{reached}, {_left(left_s)} left of the grace{missing}"
    if facts.ends_s > 0 and facts.unscreened:  # where a round closes at once, nobody is waited for
        return RoundAction.WAIT, f"{reached}; {facts.unscreened} that came in time are screened first"
    return RoundAction.FUSE, reached


def _left(left_s: float) -> str:
    """Return what is left of a deadline, as finely as somebody who waits wants it."""
    if left_s < 120:
        return f"{left_s:.0f}s"
    hours, minutes = divmod(int(left_s) // 60, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m"
