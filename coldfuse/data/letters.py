"""What is no letter in texts: found, replaced, counted and said, as a tokenizer would fail on it or learn nonsense."""

from __future__ import annotations

import re
from collections.abc import Callable

from coldfuse.core.words import plural
from coldfuse.errors import UserInputError

NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
"""NUL and other control characters, and halves of surrogate pairs, which UTF-8 cannot hold. Line ends are text."""
_LATE = re.compile("[\x80-\x84\x86-\x9f]")
"""Control characters that hardly anybody means: what Latin-1 makes of letters of cp1252."""
_ODD = re.compile(f"{NO_TEXT.pattern}|{_LATE.pattern}")
_DEEPEST = 64
_REPLACEMENT = "\ufffd"


class Letters:
    """Cleans texts, and counts what was replaced."""

    def __init__(self) -> None:
        self._num_replaced = self._num_late = 0
        self._first_replaced = ""

    def clean(self, text: str, where: Callable[[], str]) -> str:
        """Return a text with what is no letter replaced; `where` says which one it is."""
        if not _ODD.search(text):
            return text
        clean = NO_TEXT.sub(_REPLACEMENT, text)
        self._num_late += _LATE.search(text) is not None
        if clean != text:
            self._num_replaced += 1
            self._first_replaced = self._first_replaced or where()
        return clean

    def clean_all(self, value: object, where: Callable[[], str], *, depth: int = 0) -> object:
        """Return a value with every text in it cleaned; refuse one in which values lie too deep in each other."""
        if isinstance(value, str):
            return self.clean(value, where)
        if depth > _DEEPEST:
            raise UserInputError(f"{where()}: more than {_DEEPEST} lists and objects lie in each other; flatten them")
        if isinstance(value, list):
            return [self.clean_all(element, where, depth=depth + 1) for element in value]
        if isinstance(value, dict):
            return {name: self.clean_all(inner, where, depth=depth + 1) for name, inner in value.items()}
        return value

    def notes(self) -> list[str]:
        """Say what was replaced."""
        notes = []
        if self._num_replaced:
            notes.append(
                f"{plural(self._num_replaced, 'text')} with characters that are none (NUL, control, half of a pair), "
                f"each replaced by {_REPLACEMENT}, first in {self._first_replaced}"
            )
        if self._num_late:
            notes.append(
                f"{plural(self._num_late, 'text')} with control characters U+0080 to U+009F, which are quotes and "
                "dashes in cp1252; if that is meant, say --text-encoding cp1252"
            )
        return notes
