"""When a release has proved itself: a pure rule on the releases after it and the time since, with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from coldfuse.core.rollback import Rollback
from coldfuse.core.value import Value

MAX_ROUNDS = 1000
"""Number of releases that can be waited for."""


class SoakRule(Value):
    """When the channel `stable` follows: after so many releases, or so long, without an alarm; or by hand alone."""

    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] | None = None
    """Number of releases that have to be made of a release."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds that a release has to be out."""

    @property
    def is_on(self) -> bool:
        """Whether anything moves by itself."""
        return self.rounds is not None or self.seconds is not None


@dataclass(frozen=True, kw_only=True)
class Out:
    """A release that is out, as far as its soaking follows from it."""

    number: int
    made_at_s: float
    """Seconds since 1970 at which it was made."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something that went wrong: whatever soaks begins anew."""

    newest: int
    """Largest number that a release had by then."""
    at_s: float
    """Seconds since 1970."""


def alarm_of(rollback: Rollback | None, disputed: Iterable[Out] = ()) -> Alarm | None:
    """Return the last alarm: a step back, or a release in which an evaluator has seen a loss whom nobody could second.

    >>> alarm_of(None, [Out(number=3, made_at_s=30.0), Out(number=2, made_at_s=20.0)])
    Alarm(newest=3, at_s=30.0)
    """
    alarms = [] if rollback is None else [(rollback.newest, rollback.at_s)]
    alarms += [(one.number, one.made_at_s) for one in disputed]
    if not alarms:
        return None
    return Alarm(newest=max(number for number, _ in alarms), at_s=max(at_s for _, at_s in alarms))


def soaked(line: Sequence[Out], rule: SoakRule, *, now_s: float, alarm: Alarm | None = None) -> int | None:
    """Return the number of the newest release that has proved itself; None: none has.

    >>> line = [Out(number=number, made_at_s=100.0 * number) for number in (4, 3, 2, 1, 0)]
    >>> soaked(line, SoakRule(rounds=2), now_s=500.0), soaked(line, SoakRule(seconds=150.0), now_s=500.0)
    (2, 3)
    >>> soaked(line, SoakRule(rounds=2), now_s=500.0, alarm=Alarm(newest=3, at_s=350.0))

    Args:
        line: The latest release and those that it was made of, newest first.
        rule: The rule.
        now_s: Seconds since 1970.
        alarm: The last alarm: only what came after it counts.
    """
    after = 0
    for release in line:
        since_s = release.made_at_s if alarm is None else max(release.made_at_s, alarm.at_s)
        if rule.rounds is not None and after >= rule.rounds:
            return release.number
        if rule.seconds is not None and now_s - since_s >= rule.seconds:
            return release.number
        after += alarm is None or release.number > alarm.newest
    return None
