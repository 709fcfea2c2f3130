"""What an operator may change of a federation, and the record of a change."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.contribution import Count
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.names import DisplayName, shown
from coldfuse.core.retention import RetentionRules
from coldfuse.core.round_rules import Close, Late
from coldfuse.core.scored_weights import Weighting
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.soak import SoakRule
from coldfuse.core.staleness import StalenessRule
from coldfuse.core.statistics import StatisticsRule
from coldfuse.core.value import Name, Value, without_unset
from coldfuse.core.webhooks import Webhooks


class ChangeableSettings(Value):
    """What an operator may change of a federation; None where it is not spoken of."""

    name: Name | None = None
    """Id of the federation, derived from its name."""
    display_name: DisplayName | None = None
    """Name for people; it goes with the id, and is None where the id is the name."""
    quorum: int | None = None
    deadline_s: float | None = None
    method: str | None = None
    screening: ScreeningRules | None = None
    statistics: StatisticsRule | None = None
    close: Close | None = None
    grace_s: float | None = None
    max_grace_s: float | None = None
    spread: float | None = None
    late: Late | None = None
    staleness: StalenessRule | None = None
    max_staleness: int | None = None
    gate: GateRules | None = None
    soak: SoakRule | None = None
    webhooks: Webhooks | None = None
    weighting: Weighting | None = None
    retention: RetentionRules | None = None

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "gate", "soak", "webhooks", "weighting", "retention")

    def __str__(self) -> str:
        """Say what is spoken of."""
        return ", ".join(f"{name} {value}" for name, value in self.in_words().items())

    def in_words(self) -> dict[str, str]:
        """Return what is spoken of as people write it, by the names of the options."""
        words = {
            "name": self.name and shown(self.name, self.display_name),
            "quorum": self.quorum,
            "deadline": None if self.deadline_s is None else format_duration(self.deadline_s),
            "method": self.method,
            "screening": self.screening,
            "statistics": self.statistics,
            "close": self.close,
            "grace": None if self.grace_s is None else format_duration(self.grace_s),
            "max-grace": None if self.max_grace_s is None else format_duration(self.max_grace_s),
            "grace-spread": None if self.spread is None else f"{self.spread:g}",
            "late": self.late,
            "staleness": self.staleness,
            "max-staleness": self.max_staleness,
            "gate": self.gate,
            "stable-after": None if self.soak is None else _soak_in_words(self.soak),
            "webhooks": None if self.webhooks is None else ", ".join(self.webhooks) or "none",
            "weighting": self.weighting,
            "retention": self.retention,
        }
        return {name: str(value) for name, value in words.items() if value is not None}


class SettingsChange(Value):
    """One change of a federation's settings: who made it, when, and what it was."""

    number: Annotated[Count, Field(ge=1)]
    """Number of the change, from 1, without gaps."""
    changed_at_s: float
    """Seconds since 1970, by the clock of who made it."""
    by: Annotated[str, Field(max_length=200)]
    """Who made it, as they said or as their system calls them."""
    after_release: Count
    """Number of the release that was the latest then: clocks of two machines may not agree on an order."""
    old: ChangeableSettings
    """What changed, as it was before."""
    new: ChangeableSettings
    """The same, as it is since."""

    def __str__(self) -> str:
        """Say what changed, such as `quorum 2 → 4, deadline 15m → 2h`."""
        old, new = self.old.in_words(), self.new.in_words()
        return ", ".join(f"{name} {old.get(name, '-')} → {value}" for name, value in new.items())


def _soak_in_words(rule: SoakRule) -> str:
    if rule.seconds is not None:
        return format_duration(rule.seconds)
    return "off" if rule.rounds is None else str(rule.rounds)


def format_duration(duration_s: float) -> str:
    """Return a duration as people write it, in the largest unit that keeps it whole.

    >>> format_duration(900.0), format_duration(5400.0), format_duration(7200.0), format_duration(0.5)
    ('15m', '90m', '2h', '0.5s')
    """
    for letter, unit_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if duration_s >= unit_s and duration_s % unit_s == 0:
            return f"{duration_s / unit_s:.0f}{letter}"
    return f"{duration_s:g}s"
