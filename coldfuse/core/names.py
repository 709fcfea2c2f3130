"""Names of contributors and federations: what people call themselves, and the id that keys, folders and URLs can hold.

A display name is of any script. Its id is derived from it, the same everywhere: a name that is an id already is its
own, and any other one loses something on the way (upper case, accents, a script), so a digest of it stands behind what
is left. Two names share an id only if they are one name.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from coldfuse.errors import UserInputError

MAX_NAME_CHARS = 80
"""Maximum length of a display name."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SLUG_CHARS, _DIGEST_CHARS = 40, 10
_MAX_MARKS = 4
"""Maximum number of accents on one letter: more than any script has, and fewer than run over the lines around."""
_ZWNJ, _ZWJ, _VIRAMA = "\u200c", "\u200d", 9


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who somebody is in a federation, or what a federation is called."""

    id: str
    """The safe name: lower-case letters, digits, '.', '_' and '-'."""
    display_name: str | None = None
    """The name for people; None where that is the id."""
    is_named: bool = field(default=False, repr=False)
    """Whether they agree to be named in the cards of releases."""

    @classmethod
    def of(cls, text: str, *, what: str = "name") -> Identity:
        """Return the identity of whom people call by this text.

        >>> Identity.of("alice")
        Identity(id='alice', display_name=None)
        >>> Identity.of("Klinik Köln")
        Identity(id='klinik-koln-a41d4b1e67', display_name='Klinik Köln')

        Args:
            text: What somebody has typed.
            what: What the error calls it.

        Raises:
            UserInputError: The text is no name.
        """
        if not isinstance(text, str):  # from Python anything comes
            raise UserInputError(f"{what}: expected text, such as 'Alice', got {type(text).__name__}")
        text = unicodedata.normalize("NFC", text)  # one name, however the keyboard composes its letters
        if reason := why_no_name(text):
            raise UserInputError(f"{what} {_short(text)}: {reason}; choose another, such as 'Alice' or 'Klinik Köln'")
        return cls(id=id_of(text), display_name=None if _ID.fullmatch(text) else text)


def shown(name_id: str, display_name: str | None) -> str:
    r"""Return what people read: the name, and behind it the id where that is another; the id of what does not print.

    >>> shown("alice", None), shown("alice-3bc5106297", "Alice"), shown("eve-1234567890", "\x1b[2J")
    ('alice', 'Alice (alice-3bc5106297)', 'eve-1234567890')
    """
    is_shown_here = display_name is not None and why_no_name(display_name) is None
    return f"{display_name} ({name_id})" if is_shown_here else name_id


def id_of(name: str) -> str:
    """Return the id of a display name."""
    if _ID.fullmatch(name):
        return name
    letters = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:_SLUG_CHARS].strip("-")
    return f"{slug or 'name'}-{hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARS]}"


def why_no_name(text: str) -> str | None:
    r"""Return why a text cannot be a display name, or None.

    >>> why_no_name("北京协和医院"), why_no_name("../evil"), why_no_name("a\nb")
    (None, "it has a '/', as paths have", "it has a character that does not print ('\\n')")
    """
    if not text.strip():
        return "it is empty"
    if len(text) > MAX_NAME_CHARS:
        return f"it has {len(text)} characters, at most {MAX_NAME_CHARS} are taken"
    hidden = next((each for index, each in enumerate(text) if not is_shown(text, index)), None)
    if hidden is not None:
        return f"it has a character that does not print ({hidden!a})"
    path = next((each for each in text if each in "/\\"), None)
    if path is not None:
        return f"it has a {path!r}, as paths have"
    if not any(each.isalnum() for each in text):
        return "it has no letter and no digit"
    if " ".join(text.split()) != text:
        return "it begins or ends with a space, or has two in a row"
    if _has_too_many_marks(text):
        return f"it has a letter with more than {_MAX_MARKS} accents, or an accent without a letter"
    return None if unicodedata.is_normalized("NFC", text) else "it is not in Unicode's form NFC"


def is_shown(text: str, index: int) -> bool:
    """Tell whether a character of a text prints, and nothing more: no control, no direction, nothing invisible.

    Joiners are invisible, and Persian, Hindi and Sinhala are not spelled without them: they may stand where Unicode's
    rules for identifiers let them change a letter's shape (RFC 5892, A.1 and A.2).
    """
    letter = text[index]
    if letter not in (_ZWNJ, _ZWJ):
        return letter.isprintable()
    before, after = text[index - 1 : index], text[index + 1 : index + 2]
    if before and unicodedata.combining(before) == _VIRAMA:
        return True
    arabic = all(each and unicodedata.bidirectional(each) == "AL" for each in (before, after))
    return letter == _ZWNJ and arabic


def _has_too_many_marks(text: str) -> bool:
    marks = "".join("m" if unicodedata.category(each) in ("Mn", "Me") else "-" for each in text)
    return marks.startswith("m") or "m" * (_MAX_MARKS + 1) in marks


def _short(text: str) -> str:
    return ascii(text[:MAX_NAME_CHARS]) if not text.isprintable() else repr(text[:MAX_NAME_CHARS])


DisplayName = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
"""A display name as it is stored: bounded, and no more. Which characters print depends on the version of Unicode that a
Python knows, and what is stored must stay readable to all: `why_no_name` is asked at the door, and by `shown`."""
