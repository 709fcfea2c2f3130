"""Regular expressions in an adapter's settings, which name modules: checked before any is matched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from coldfuse.errors import UserInputError

_LITERALS = re.compile(r"\\.|\[\^?\]?[^\]]*\]", re.DOTALL)
"""Escaped characters and sets of characters, in which nothing repeats."""

_MODIFIERS = re.compile(r"(?<=[*+?}])[?+]|(?<=\()\?[^)]")
"""Question marks that repeat nothing: of lazy repeats, and of groups that are no plain ones."""

_REPEATED = re.compile(r"[*+?]|\{\d*,\d*\}")
_REPEATED_GROUP = re.compile(r"\)([*+]|\{)")

_MAX_CHOICES = 3
"""Maximum number of parts that repeat or may be missing, and of groups with alternatives: the time to match grows with
the length of a name to that power, or is doubled by each."""


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
        plain = _MODIFIERS.sub("", _LITERALS.sub("x", pattern))
        choices = len(_REPEATED.findall(plain)) + _num_alternatives(plain)
        if _REPEATED_GROUP.search(plain) or choices > _MAX_CHOICES:
            raise UserInputError(
                f"{what}: {pattern[:200]!r} repeats a group, or has more than {_MAX_CHOICES} parts that repeat, may be "
                "missing or have alternatives, and could match for ever; name the modules in full"
            )


def _num_alternatives(plain: str) -> int:
    """Return the number of groups that have alternatives."""
    open_groups, count = list[bool](), 0
    for char in plain:
        if char == "(":
            open_groups.append(False)
        elif char == "|" and open_groups:
            open_groups[-1] = True
        elif char == ")" and open_groups:
            count += open_groups.pop()
    return count


def _patterns(given: Mapping[str, object]) -> Iterator[str]:
    for name in ("rank_pattern", "alpha_pattern"):
        found = given.get(name)
        yield from (str(pattern) for pattern in found) if isinstance(found, dict) else ()
    if isinstance(whole := given.get("feedforward_modules"), str):
        yield whole
