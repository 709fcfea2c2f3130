"""A channel's step back to an older release, and what ends with it: pure decisions.

A channel keeps its last step back for good. So the newest number that any release had is known whatever the channel
points to, and so is the last round that began before: numbers are never used twice. A release is on the line of
another one if it is that one, or one that it was made from, and so on; what is not on the line of the latest release
was rolled back.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.contribution import Count
from coldfuse.core.value import Digest, Value, without_unset

MAX_REASON_CHARS = 500
"""Length of the reason of a step back at most: a channel is read by everybody, again and again."""


class Rollback(Value):
    """A step back: from which release, to which, and what ended with it."""

    number: Annotated[Count, Field(ge=1)]
    """Number of the step, from 1, without gaps."""
    release: Count
    """Number of the release that the channel was put back to."""
    left: Count
    """Number of the release that it pointed to before."""
    left_manifest: Digest
    """SHA-256 of that one's manifest."""
    newest: Count
    """Largest number that any release had by then: the next one gets a larger one."""
    round: Count
    """Number of the last round that had begun by then: it ends, and so does every one before."""
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""
    """Why, as its operator says."""
    by: Annotated[str, Field(max_length=200)] = ""
    """Who, as they said or as their system calls them."""
    at_s: float
    """Seconds since 1970, by the clock of who did it."""
    before: Digest | None = None
    """SHA-256 of the step back before this one; None: there was none."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "before")

    def __str__(self) -> str:
        """Say it in a sentence."""
        why = f": {self.reason}" if self.reason else ""
        return f"rolled back from release {self.left} to {self.release}{why}"

    @property
    def ending(self) -> str:
        """Why a round ends, for who has contributed to it."""
        why = f" ({self.reason})" if self.reason else ""
        return f"the federation was rolled back to release {self.release}{why}; fetch it, and send what you make of it"


class Line:
    """Tells which releases of a history are on the line of the latest one; what is not was rolled back.

    >>> line = Line(3)
    >>> [line.has(number, parent) for number, parent in ((3, 1), (2, 1), (1, 0), (0, None))]
    [True, False, True, True]
    """

    def __init__(self, latest: int) -> None:
        """Take the number of the latest release."""
        self._wanted: int | None = latest

    def has(self, number: int, parent: int | None) -> bool:
        """Tell it of the next older release: none may be left out from the latest one on.

        Args:
            number: Its number.
            parent: Number of the release that it was made from; None of a base.
        """
        is_on = number == self._wanted
        if is_on:
            self._wanted = parent
        return is_on


def is_ended(
    rollback: Rollback, *, round_number: int, base: tuple[int, str] | None, latest: tuple[int, str, int]
) -> bool:
    """Tell whether a round that is not over ends because a channel has stepped back.

    Args:
        rollback: The last step back.
        round_number: Number of the round.
        base: Number and model digest of the release that it was opened on; None: it was not.
        latest: The same of the latest release, and the number of the round that has made it.
    """
    if round_number <= rollback.round:
        return True
    # Opened by who did not know of the step yet; the round that has made the latest release is on the one before it.
    return base is not None and base != latest[:2] and round_number > latest[2]
