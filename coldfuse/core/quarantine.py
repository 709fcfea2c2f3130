"""Who an operator has shut out of a federation, why, and every change of that."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.value import Name, Value

MAX_QUARANTINED = 10_000
"""Maximum number of names in quarantine: all of them are read at every look at a round."""

Reason = Annotated[str, Field(max_length=200)]
"""Why somebody is shut out, for them and for other operators."""


class Quarantined(Value):
    """A name that is shut out."""

    reason: Reason
    since_s: float
    """Seconds since 1970, by the clock of who shut it out."""
    by: Annotated[str, Field(max_length=200)]
    """Who shut it out, as they said or as their system calls them."""


class QuarantineChange(Value):
    """One change: who was shut out or let in again, by whom, when and why."""

    number: Annotated[Count, Field(ge=1)]
    """Number of the change, from 1, without gaps."""
    name: Name
    """Id of whom it was about."""
    is_out: bool
    """True where the name was shut out, False where it was let in again."""
    reason: Reason
    by: Annotated[str, Field(max_length=200)]
    """Who made it, as they said or as their system calls them."""
    changed_at_s: float
    """Seconds since 1970, by the clock of who made it."""

    def __str__(self) -> str:
        """Say it in a line."""
        what = "quarantined" if self.is_out else "readmitted"
        return f"{what} {self.name}{f': {self.reason}' if self.reason else ''}"


class Quarantine(Value):
    """All names that are shut out now."""

    names: Annotated[dict[Name, Quarantined], Field(max_length=MAX_QUARANTINED)] = Field(default_factory=dict)
    """What is known of each, by id."""
    change: QuarantineChange | None = None
    """Change that made this; None before the first one."""


def change_quarantine(
    quarantine: Quarantine, name: str, *, is_out: bool, reason: str, by: str, now_s: float
) -> Quarantine:
    """Return the quarantine after a change, with its record; the very same if nothing would change.

    Args:
        quarantine: The quarantine as it is.
        name: Id of whom it is about.
        is_out: True to shut the name out, False to let it in again.
        reason: Why.
        by: Who changes it.
        now_s: Seconds since 1970.

    Raises:
        pydantic.ValidationError: A text is too long, or there are too many names.
    """
    there = quarantine.names.get(name)
    if (there is not None) == is_out and (there is None or there.reason == reason):
        return quarantine
    number = quarantine.change.number + 1 if quarantine.change else 1
    change = QuarantineChange(number=number, name=name, is_out=is_out, reason=reason, by=by, changed_at_s=now_s)
    names = {other: entry for other, entry in quarantine.names.items() if other != name}
    if is_out:
        names[name] = Quarantined(reason=reason, since_s=now_s, by=by)
    return Quarantine(names=names, change=change)
