"""Members of a federation: who may take part, as what, and with which key.

Operators sign the list. It names no key of a member's, but the public half of an invitation; whoever holds the other
half, which is in the token, binds a key of their own to it, once. So operators need not be there when somebody joins,
nobody else learns a member's private key, and whoever can only write to the store can let nobody in. A key is followed
by the next one that it has signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.names import DisplayName
from coldfuse.core.serialization import decode, encode
from coldfuse.core.value import Digest, Name, Sentence, Value
from coldfuse.errors import SignatureError
from coldfuse.trust.envelope import read_envelope, sign, verified
from coldfuse.trust.keys import PublicKey, Signer

MemberRole = Literal["contributor", "evaluator", "consumer", "operator"]
"""What a member may do; see `rights`."""

MAX_INVITING_BYTES = (9 << 20) // 2
"""Length of a list, before it is signed, to which nobody is added any more: about 11,000 members, each of whom can
still be revoked then. What is signed of it may take 8 MiB."""

KEYS = "members/keys/"
"""Folder of all members' keys in the store."""

MAX_ROTATIONS = 1_000
"""Keys of one member, one after the other."""


class Quota(Value):
    """What a member may send; None where nothing but the federation's own bounds holds."""

    contribution_bytes: Count | None = None
    """Size of one contribution at most."""
    uncommitted_bytes: Count | None = None
    """Bytes that were sent and belong to no contribution yet, at most."""
    contributions_per_day: Annotated[Count, Field(ge=1)] | None = None
    """Contributions in 24 hours at most."""


class Revocation(Value):
    """That a member is none any more."""

    at_s: float
    """Seconds since 1970 at which it was revoked."""
    since_s: float
    """Seconds since 1970 from which what it sent does not count: a key may have been stolen days before."""
    reason: Sentence = ""
    """Why, for people."""


class Member(Value):
    """One member."""

    display_name: DisplayName | None = None
    """Name for people; None where the id is the name."""
    role: MemberRole
    """What it may do."""
    quota: Quota = Field(default_factory=Quota)
    """What it may send."""
    invite: PublicKey
    """Public half of the invitation's key."""
    invited_at_s: float
    """Seconds since 1970 at which it was invited."""
    join_by_s: float
    """Seconds since 1970 until which a first key may be bound to the invitation."""
    valid_until_s: float
    """Seconds since 1970 until which it is a member, unless an operator renews it."""
    revoked: Revocation | None = None
    """Its revocation; None: it is a member."""


class Members(Value):
    """One version of the list."""

    version: Annotated[Count, Field(ge=1)]
    """Number of the version, from 1, without gaps."""
    federation: Digest
    """Fingerprint of the root."""
    members: dict[Name, Member] = Field(default_factory=dict)
    """The members by their names' ids; who was revoked stays."""
    former: tuple[tuple[Name, Member], ...] = ()
    """Invitations that were replaced by newer ones of the same name: what was signed under them is still known."""


class KeyStatement(Value):
    """That a key is a member's. Signed by the key before it (for the first one the invitation's) and by itself."""

    federation: Digest
    """Fingerprint of the root."""
    member: Name
    """Whose key it is."""
    number: Annotated[int, Field(ge=0, lt=MAX_ROTATIONS)]
    """Place in the member's keys, from 0."""
    key: PublicKey
    """The key."""
    made_at_s: float
    """Seconds since 1970 at which it was made, by the member's clock."""


def keys_folder(member: str, invite: PublicKey | None) -> str:
    """Return the folder of a member's keys in the store, by the invitation; None in an open federation."""
    return f"{KEYS}{f'open-{member}' if invite is None else invite.id}/"


def state_key(statement: KeyStatement, *, before: Signer | None, own: Signer) -> bytes:
    """Return the envelope of a statement; `before` is the key before it, or the invitation's, or None if open."""
    return sign(encode(statement), "member-key", [own] if before is None else [before, own])


def read_statements(
    envelopes: Sequence[bytes], *, member: str, invite: PublicKey | None, federation: str
) -> list[KeyStatement]:
    """Return a member's keys, oldest first, each verified by the one before it.

    Args:
        envelopes: The statements as they are stored, in order.
        member: Whose they are.
        invite: The invitation's key; None in an open federation, where the first key vouches for itself.
        federation: Fingerprint of the root.

    Raises:
        SignatureError: One is not signed as it has to be, or is another member's or federation's.
        CodecError: One is no statement.
    """
    statements: list[KeyStatement] = []
    for number, data in enumerate(envelopes):
        what = f"key {number} of {member}"
        found = decode(KeyStatement, read_envelope(data, what=what).content("member-key", what=what), what=what)
        if (found.federation, found.member, found.number) != (federation, member, number):
            raise SignatureError(f"{what}: is a statement about key {found.number} of {found.member}, elsewhere")
        before = statements[-1].key if statements else invite
        signers = [found.key] if before is None else [before, found.key]
        if before is not None and before.id == found.key.id:
            raise SignatureError(f"{what}: is the key before it once more; make a new one")
        verified(data, "member-key", signers, threshold=len(signers), what=what)
        statements.append(found)
    return statements
