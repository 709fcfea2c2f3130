"""A member's signed word: how one is read, whatever it is on. What it may say is the word's own to know.

It is bounded before it is read, decoded strictly, signed by the one member that it names, and counts only while that
member has the right to say it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypeVar

from coldfuse.core.serialization import decode
from coldfuse.core.value import Digest, Name, Value
from coldfuse.errors import CodecError
from coldfuse.trust.envelope import Kind, read_envelope
from coldfuse.trust.rights import Asker, require_right
from coldfuse.trust.view import TrustView


class MemberWord(Value, ABC):
    """What a member says, whatever that is on."""

    signed_as: ClassVar[Kind]
    """What kind of word the signature says that it is."""
    right: ClassVar[str]
    """Method that a member must have the right to call, for its word to count."""
    max_bytes: ClassVar[int]
    """Size beyond which nothing is read."""

    federation: Digest
    """Fingerprint of the root."""
    member: Name
    """Who says it."""

    @property
    @abstractmethod
    def said_at_s(self) -> float:
        """Seconds since 1970 at which it was said, by the member's clock."""


W = TypeVar("W", bound=MemberWord)


def claimed_word(kind: type[W], data: bytes, *, what: str | None = None) -> W:
    """Return what an envelope says, unverified.

    Args:
        kind: What kind of word it is.
        data: The envelope.
        what: What the errors call it; "the score", say, by default.

    Raises:
        CodecError: It is none, or too long for one.
    """
    what = what or f"the {kind.signed_as}"
    if len(data) > kind.max_bytes:
        raise CodecError(f"{what}: {len(data):,} bytes, at most {kind.max_bytes:,} are taken")
    return decode(kind, read_envelope(data, what=what).content(kind.signed_as, what=what), what=what)


def read_word(kind: type[W], view: TrustView, data: bytes, *, now_s: float, is_new: bool, what: str) -> tuple[W, Asker]:
    """Return a member's word, and who the member is.

    Args:
        kind: What kind of word it is.
        view: Who the members are.
        data: The envelope.
        now_s: Seconds since 1970 at which the member must have the right to say it.
        is_new: Whether it has to be signed by the member's newest key; else by the one that it had then.
        what: What the errors call it.

    Raises:
        CodecError: It is none, or too long for one.
        SignatureError: It is not signed by the member that it names, and by it alone.
        NotAllowedError: There is no such member (any more), or it may not say it.
    """
    word, envelope = claimed_word(kind, data, what=what), read_envelope(data, what=what)
    own = envelope.signatures[0] if len(envelope.signatures) == 1 else None
    asker = view.verify(
        envelope.content(kind.signed_as, what=what), kind.signed_as, own, name=word.member, what=what,
        at_s=None if is_new else word.said_at_s,
    )  # fmt: skip
    require_right(kind.right, asker, is_open=view.known().root.is_open, now_s=now_s)
    return word, asker
