"""Regular expressions in an adapter's settings, which name modules: checked before any is matched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from coldfuse.errors import UserInputError

_LITERALS = re.compile(r"\\.|\[\^?\]?[^\]]*\]", re.DOTALL)
"""Escaped characters and sets of characters, in which nothing repeats."""

_REPEATED = re.compile(r"[*+]|\{\d*,\d*\}")
_REPEATED_GROUP = re.compile(r"\)([*+]|\{)")

_MAX_REPEATED = 3
"""Maximum number of parts that repeat: the time to match a name grows with its length to that power."""


def check_patterns(given: Mapping[str, object], *, what: str) -> None:
    """Refuse what is no regular expression, or one that can take for ever to match.

    Args:
        given: An adapter's settings.
        what: The file's name, for errors.

    Raises:
        UserInputError: The message quotes the expression.
    """
    for pattern in _patterns(given):
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise UserInputError(f"{what}: {pattern[:200]!r} is no regular expression: {error}") from error
        plain = _LITERALS.sub("x", pattern)
        if _REPEATED_GROUP.search(plain) or len(_REPEATED.findall(plain)) > _MAX_REPEATED:
            raise UserInputError(
                f"{what}: {pattern[:200]!r} repeats a group, or more than {_MAX_REPEATED} parts, and could match for "
                "ever; name the modules in full"
            )


def _patterns(given: Mapping[str, object]) -> Iterator[str]:
    for name in ("rank_pattern", "alpha_pattern"):
        found = given.get(name)
        yield from (str(pattern) for pattern in found) if isinstance(found, dict) else ()
    if isinstance(whole := given.get("feedforward_modules"), str):
        yield whole
