"""A member's word on a release: that fusing it again has given the same, or what differs first.

Whoever makes releases cannot make this: the member signs it. Which releases a member looks at is drawn by lot, so that
looking is cheap, and so that nobody knows which. Were the lot drawn from what everybody knows, such as the release's
digest and the member's name, an aggregator could try release after release, each with another time in it, until it has
one that nobody looks at. So the lot is the member's signature over the release: nobody else can compute it, and the
member cannot draw again, as its key signs the same thing in one way.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.serialization import encode
from coldfuse.core.value import Digest, Name, Sentence, Value
from coldfuse.trust.envelope import Kind, sign
from coldfuse.trust.identity import Identity
from coldfuse.trust.member_word import MemberWord, claimed_word, read_word
from coldfuse.trust.rights import Asker
from coldfuse.trust.view import TrustView

MAX_CHECK_BYTES = 64 << 10
"""More than a member's word on a release takes."""


class Check(MemberWord):
    """What a member says of a release."""

    signed_as: ClassVar[Kind] = "check"
    right: ClassVar[str] = "PutCheck"
    max_bytes: ClassVar[int] = MAX_CHECK_BYTES

    release: Count
    """Number of the release."""
    manifest: Digest
    """SHA-256 of the bytes of its manifest: the word is on this very release."""
    agrees: bool
    """Whether fusing it again has given the same bytes."""
    difference: Sentence = ""
    """What differs first; "" where nothing does."""
    checked_at_s: float
    """Seconds since 1970, by the member's clock."""
    software: Annotated[dict[Name, Annotated[str, Field(max_length=200)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Versions of the software that has fused again."""

    @property
    def said_at_s(self) -> float:
        """Seconds since 1970 at which it was said, by the member's clock."""
        return self.checked_at_s


class _Lot(Value):
    federation: Digest
    member: Name
    lot: Digest


def word_key(release: int, member: str) -> str:
    """Return the key of a member's word on a release.

    >>> word_key(12, "ada")
    'words/00012/ada.json'
    """
    return f"words/{release:05d}/{member}.json"


def claimed_check(data: bytes) -> Check:
    """Return what an envelope says, unverified.

    Raises:
        CodecError: It is none, or too long for one.
    """
    return claimed_word(Check, data)


def sign_check(check: Check, identity: Identity) -> bytes:
    """Return the envelope of a member's word."""
    return sign(encode(check), Check.signed_as, [identity.signer])


def read_check(
    view: TrustView, data: bytes, *, now_s: float, is_new: bool = False, what: str = "check"
) -> tuple[Check, Asker]:
    """Return a member's word, and who the member is.

    Args:
        view: Who the members are.
        data: The envelope.
        now_s: Seconds since 1970 at which the member must have the right to speak.
        is_new: Whether it has to be signed by the member's newest key.
        what: What the errors call it.

    Raises:
        CodecError: It is none, or too long for one.
        SignatureError: It is not signed by that member.
        NotAllowedError: There is no such member (any more), or it may not speak.
    """
    return read_word(Check, view, data, now_s=now_s, is_new=is_new, what=what)


def is_drawn(identity: Identity, manifest: str, *, share: float) -> bool:
    """Tell whether a member is to look at a release, by a lot that nobody else can compute.

    Args:
        identity: The member.
        manifest: SHA-256 of the release's manifest.
        share: The share of releases that it looks at, from 0 to 1.
    """
    lot = _Lot(federation=identity.federation, member=identity.name, lot=manifest)
    signature = identity.sign(encode(lot), "lot")
    drawn = int.from_bytes(hashlib.sha256(signature.sig.encode()).digest()[:8])
    return drawn < share * 2**64
