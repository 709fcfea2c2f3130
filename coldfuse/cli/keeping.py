"""What an operator says of how much is kept, as rules."""

from __future__ import annotations

from pydantic import ValidationError

from coldfuse.cli.options.keep import KeepWords
from coldfuse.core.retention import RetentionRules
from coldfuse.errors import UserInputError


def retention_of(words: KeepWords, before: RetentionRules | None) -> RetentionRules | None:
    """Return how much is kept, with what there was before where it is not spoken of; None where nothing was said.

    >>> retention_of(KeepWords(keep_releases="20"), RetentionRules(keep_deltas=3))
    RetentionRules(keep_releases=20, keep_deltas=3)
    >>> retention_of(KeepWords(keep_releases="all"), RetentionRules(keep_releases=3))
    RetentionRules(keep_releases=None, keep_deltas=None)

    Raises:
        UserInputError: It is neither a number nor all.
    """
    given = {"keep_releases": words.keep_releases, "keep_deltas": words.keep_deltas}
    said = {name: _number(text, name) for name, text in given.items() if text is not None}
    if not said:
        return None
    try:
        return RetentionRules.model_validate((before or RetentionRules()).model_dump() | said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserInputError(f"{_option(str(first['loc'][0]))} {first['input']}: {first['msg']}, or all") from error


def _number(text: str, name: str) -> int | None:
    if text == "all":
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise UserInputError(f"{_option(name)} {text[:80]!r}: expected a number of releases, or all")
    return int(text)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
