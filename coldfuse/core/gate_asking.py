"""How often evaluators are asked, how long they are waited for, and the noise with which they may answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping

from coldfuse.core.federation import format_duration
from coldfuse.core.gate_rules import GateRules, SuiteCounts
from coldfuse.core.words import plural

_NAMED = 5
"""Number of evaluators that a sentence names."""


def may_ask(rules: GateRules, asked: Iterable[int], *, round_number: int) -> tuple[bool, str]:
    """Tell whether a validation set may be asked once more, and why.

    Every answer says something of the set, and a model that is chosen by many answers fits it: so an evaluator and the
    aggregator both count.

    >>> may_ask(GateRules(max_asks=2, per_rounds=3), [4, 5], round_number=6)[0]
    False
    >>> may_ask(GateRules(max_asks=2, per_rounds=3), [3, 5], round_number=6)
    (True, 'asked once of 2 times in 3 rounds')

    Args:
        rules: The federation's rules.
        asked: Number of the round of every time that it was asked, in any order.
        round_number: The round that it would be asked in.
    """
    first = round_number - rules.per_rounds + 1
    count = sum(first <= each <= round_number for each in asked)
    times = "once" if count == 1 else plural(count, "time")
    said = f"asked {times} of {rules.max_asks} times in {plural(rules.per_rounds, 'round')}"
    return count < rules.max_asks, said


def missed_after(
    before: Mapping[str, int],
    *,
    asked: Collection[str],
    answered: Collection[str],
    came_late: Collection[str],
    rules: GateRules,
) -> dict[str, int]:
    """Return how many rounds in a row each evaluator has left unanswered, after one more; those alone who have.

    Whoever was not waited for and has answered too late is there again: it is waited for once more.

    >>> rules, before = GateRules(max_missed=3), {"eva": 2, "ivo": 3, "uma": 3}
    >>> missed_after(before, asked=["ada", "eva", "ivo", "uma"], answered=["ada"], came_late=["ivo"], rules=rules)
    {'eva': 3, 'ivo': 2, 'uma': 4}

    Args:
        before: The same, as it was when they were asked.
        asked: Who was asked.
        answered: Who has answered in time.
        came_late: Who has answered since.
        rules: The federation's rules.
    """
    absent, found = not_awaited(rules, before), dict[str, int]()
    for name in sorted(set(asked) - set(answered)):
        is_back = name in absent and name in came_late
        found[name] = (rules.max_missed or 1) - 1 if is_back else before.get(name, 0) + 1
    return {name: count for name, count in found.items() if count}


def not_awaited(rules: GateRules, missed: Mapping[str, int]) -> frozenset[str]:
    """Return who is not waited for: who has answered none of the last `max_missed` rounds.

    After twice, four times, eight times as many, a round waits for them once more: so nobody is forgotten for good.

    >>> rules = GateRules(max_missed=3)
    >>> [count for count in range(14) if "eva" not in not_awaited(rules, {"eva": count})]
    [0, 1, 2, 6, 12]

    Args:
        rules: The federation's rules.
        missed: Number of rounds in a row that each has left unanswered.
    """
    most = rules.max_missed
    if most is None:
        return frozenset()
    return frozenset(name for name, count in missed.items() if count >= most and not _is_tried_again(count, most))


def _is_tried_again(count: int, most: int) -> bool:
    times, rest = divmod(count, most)
    return rest == 0 and times > 1 and times & (times - 1) == 0


def describe_absent(rules: GateRules, missed: Mapping[str, int]) -> str:
    """Say who is not waited for, and why; "" if all are.

    >>> describe_absent(GateRules(max_missed=3), {"eva": 4, "ivo": 1})
    'not waited for: eva (4 rounds without an answer)'
    """
    absent = sorted(not_awaited(rules, missed))
    named = ", ".join(f"{name} ({plural(missed[name], 'round')} without an answer)" for name in absent[:_NAMED])
    more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
    return f"not waited for: {named}{more}" if absent else ""


def still_waits(rules: GateRules, *, answered: int, enrolled: int, age_s: float) -> tuple[bool, str]:
    """Tell whether evaluators are waited for, and why.

    >>> still_waits(GateRules(), answered=1, enrolled=3, age_s=60.0)
    (True, '1 of 3 evaluators answered, 9m left')

    Args:
        rules: The federation's rules.
        answered: Number of evaluators who have answered for this candidate, the operator's own suites among them.
        enrolled: Number of those who may.
        age_s: Seconds since the candidate could be evaluated.
    """
    have = f"{answered} of {plural(enrolled, 'evaluator')} answered"
    if answered >= enrolled:
        return False, have
    left_s = rules.wait_s - age_s
    if left_s > 0:  # of NaN nothing is left
        return True, f"{have}, {format_duration(float(math.ceil(left_s)))} left"
    return False, f"{have} in {format_duration(rules.wait_s)}"


def with_noise(counts: SuiteCounts, scale: float, uniform: Callable[[], float]) -> SuiteCounts:
    """Return counts with noise on each, as an evaluator sends them: P(k) ∝ exp(−|k| / scale) on each.

    The difference of two geometric numbers (Ghosh, Roughgarden & Sundararajan, arXiv 0811.2841). One example more or
    less changes one count by one, so a scale of 1 / ε makes an answer ε-differentially private; noise adds to the
    variance of each count 2 a / (1 − a)², a = exp(−1 / scale). Nothing is cut off at 0: that would make counts lean.

    Args:
        counts: True counts.
        scale: `GateRules.noise`; 0 for none.
        uniform: Source of independent numbers in [0, 1), of an operating system's random source where it matters.
    """
    if scale <= 0:
        return counts
    before, after = (
        count + _geometric(scale, uniform()) - _geometric(scale, uniform())
        for count in (counts.only_before, counts.only_after)
    )
    noised = counts.model_copy(update={"only_before": before, "only_after": after})
    if counts.num_right is None:
        return noised
    right = counts.num_right + _geometric(scale, uniform()) - _geometric(scale, uniform())
    return noised.model_copy(update={"num_right": right})


def _geometric(scale: float, uniform: float) -> int:
    """Return k with P(k) = (1 − a) aᵏ, a = exp(−1 / scale), from a number in [0, 1)."""
    return math.floor(-scale * math.log1p(-uniform))
