"""What callers say of a contribution, checked before anything is trained, written or kept."""

from __future__ import annotations

from typing import SupportsIndex

from coldfuse.core.contribution import MAX_EXAMPLES, Score
from coldfuse.errors import UserInputError

_ENCODINGS = ("F32", "BF16", "F16")


def check_count(name: str, value: object, *, least: int = 1) -> int:
    """Return a count as an int, numpy's too.

    Raises:
        UserInputError: It is no whole number, or out of range.

    >>> check_count("num_examples", 0)
    Traceback (most recent call last):
    coldfuse.errors.UserInputError: num_examples=0: expected a whole number of at least 1
    """
    count = value.__index__() if isinstance(value, SupportsIndex) and not isinstance(value, bool) else None
    if count is None or count < least:
        raise UserInputError(f"{name}={value!r}: expected a whole number of at least {least}")
    if count > MAX_EXAMPLES:
        raise UserInputError(f"{name}={value!r}: expected at most {MAX_EXAMPLES}")
    return count


def check_encoding(encoding: object) -> None:
    """Raise `UserInputError` if a delta's numbers cannot be written so."""
    if encoding not in _ENCODINGS:
        raise UserInputError(f"encoding={encoding!r}: expected {', '.join(_ENCODINGS[:-1])} or {_ENCODINGS[-1]}")


def check_score(score: Score | None) -> None:
    """Raise `UserInputError` if a score is none that a manifest may carry."""
    if score is not None and (problem := score.problem()) is not None:
        raise UserInputError(f"score: {problem}; leave score out where there is none on this scale")
