"""A way of training in one line, such as `lora(r=16)`; the syntax is that of one step of a fusion recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from coldfuse.errors import UserInputError

_CALL = re.compile(r"\s*(?P<name>[A-Za-z0-9][\w-]*)\s*(?:\((?P<params>.*)\))?\s*", re.DOTALL)
_PARAM = re.compile(
    r"""\s*(?P<key>\w+)\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^,"'()]*?))\s*(?:,|$)"""
)

Known = TypeVar("Known", bound=BaseModel)


def split_call(text: str, *, option: str, example: str) -> tuple[str, dict[str, str]]:
    """Take `name(key=value, …)` apart; a value with commas stands in quotes.

    >>> split_call('layers(which="0,3")', option="--train", example="full")
    ('layers', {'which': '0,3'})

    Raises:
        UserInputError: It is written otherwise.
    """
    call = _CALL.fullmatch(text)
    if call is None:
        raise UserInputError(f"{option} {text.strip()[:200]!r}: expected something like {example}")
    given: dict[str, str] = {}
    rest = (call["params"] or "").strip()
    while rest:
        param = _PARAM.match(rest)
        if param is None or param["key"] in given:
            raise UserInputError(
                f"{option} {text.strip()[:200]!r}: expected each parameter once, as key=value, with quotes around a "
                f"value that has commas; got {rest[:100]!r}"
            )
        given[param["key"]] = next(value for value in param.group("double", "single", "bare") if value is not None)
        rest = rest[param.end() :].strip()
    return call["name"], given


def find_known(name: str, known: Mapping[str, type[Known]], *, option: str) -> type[Known]:
    """Return what a name stands for, in any case and with `-` or `_`.

    Raises:
        UserInputError: The name is not known; the error says which are, and which was perhaps meant.
    """
    plain = name.lower().replace("_", "-")
    if plain not in known:
        close = get_close_matches(plain, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserInputError(f"{option} {name!r} is not known; {hint}known are {', '.join(known)}")
    return known[plain]


def make(kind: type[Known], given: Mapping[str, object], *, option: str, name: str) -> Known:
    """Make what was asked for. Raises `UserInputError` if a parameter is not known or out of bounds."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            close = get_close_matches(key, kind.model_fields, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            has = ", ".join(field.alias or name for name, field in kind.model_fields.items()) or "none"
            raise UserInputError(f"{option} {name} has no parameter {key!r}; {hint}it has {has}") from error
        where = f"{name}: {key}={first['input']}" if key else name
        raise UserInputError(f"{option} {where}: {first['msg'].removeprefix('Value error, ')}") from error
