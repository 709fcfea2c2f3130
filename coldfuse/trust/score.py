"""A member's counts on a candidate: how many examples of private suites only the base gets right, and only it.

Whoever makes releases cannot make this: the member signs it. It is about one candidate, by the digest of its manifest,
so it counts for no other. A member may say it anew until the gate has decided, a few times; its last word counts.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.gate_rules import MAX_SUITES, SuiteCounts
from coldfuse.core.serialization import encode
from coldfuse.core.value import Digest, Name
from coldfuse.errors import NotAllowedError
from coldfuse.trust.envelope import Kind, sign
from coldfuse.trust.identity import Identity
from coldfuse.trust.member_word import MemberWord, claimed_word, read_word
from coldfuse.trust.rights import Asker
from coldfuse.trust.view import TrustView

MAX_SCORE_BYTES = 64 << 10
"""More than a member's counts on all suites take."""

MAX_WORDS = 8
"""Number of times that a member may say something of one candidate."""


class Score(MemberWord):
    """What a member says of a candidate."""

    signed_as: ClassVar[Kind] = "score"
    right: ClassVar[str] = "PutScore"
    max_bytes: ClassVar[int] = MAX_SCORE_BYTES

    round: Count
    """Number of the round."""
    manifest: Digest
    """Digest of the candidate's release manifest."""
    base_digest: Digest
    """Model digest of the base that it was compared with."""
    counts: Annotated[tuple[SuiteCounts, ...], Field(min_length=1, max_length=MAX_SUITES)]
    """Counts of each suite, each in this member's name."""
    number: Annotated[int, Field(ge=0, lt=MAX_WORDS)] = 0
    """How many words of this member on this candidate came before."""
    scored_at_s: float
    """Seconds since 1970, by the member's clock."""
    software: Annotated[dict[Name, Annotated[str, Field(max_length=200)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Versions of the software that has scored."""

    @property
    def said_at_s(self) -> float:
        """Seconds since 1970 at which it was said, by the member's clock."""
        return self.scored_at_s


def score_key(round_number: int, manifest: str, member: str) -> str:
    """Return the key of a member's counts on a candidate.

    >>> score_key(12, "ab" * 32, "eva")[:20]
    'scores/00012/abababa'
    """
    return f"{scores_of(round_number, manifest)}{member}.json"


def scores_of(round_number: int, manifest: str) -> str:
    """Return the folder of all counts on a candidate."""
    return f"scores/{round_number:05d}/{manifest}/"


def claimed_score(data: bytes) -> Score:
    """Return what an envelope says, unverified.

    Raises:
        CodecError: It is none, or too long for one.
    """
    return claimed_word(Score, data)


def sign_score(score: Score, identity: Identity) -> bytes:
    """Return the envelope of a member's counts."""
    return sign(encode(score), Score.signed_as, [identity.signer])


def read_score(
    view: TrustView, data: bytes, *, now_s: float, is_new: bool = False, what: str = "the score"
) -> tuple[Score, Asker]:
    """Return a member's counts, and who the member is.

    Args:
        view: Who the members are.
        data: The envelope.
        now_s: Seconds since 1970 at which the member must have the right to say it.
        is_new: Whether it has to be signed by the member's newest key.
        what: What the errors call it.

    Raises:
        CodecError: It is none.
        SignatureError: It is not signed by that member.
        NotAllowedError: There is no such member (any more), it may not, or it speaks in another's name.
    """
    score, asker = read_word(Score, view, data, now_s=now_s, is_new=is_new, what=what)
    if others := {one.evaluator for one in score.counts} - {score.member}:
        raise NotAllowedError(f"{what}: {score.member} counts in the name of {sorted(map(str, others))[0][:80]}")
    return score, asker
