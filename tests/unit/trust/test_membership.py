"""The next list of members, where the list is as long as it can be."""

from __future__ import annotations

import pytest

from coldfuse.core.names import Identity
from coldfuse.core.serialization import encode
from coldfuse.errors import UserInputError
from coldfuse.registry.proposals import Document, arrange
from coldfuse.trust.envelope import verified
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import MAX_INVITING_BYTES, Member, Members, Quota, Revocation
from coldfuse.trust.membership import Invitation, enrolled, revoked

NOW_S = 1_764_000_000.125
KEY = PrivateKey.generate()
MEMBER = Member(
    role="contributor", invite=KEY.public, invited_at_s=NOW_S, join_by_s=NOW_S, valid_until_s=NOW_S
)  # fmt: skip


def invitation(name: str) -> Invitation:
    return Invitation(
        who=Identity.of(name), role=None, quota=Quota(), join_by_s=NOW_S + 1, valid_until_s=NOW_S + 2
    )  # fmt: skip


@pytest.fixture(scope="module")
def full() -> Members:
    """A list of as many members as can be invited."""
    empty = Members(version=1, federation="a" * 64)
    two = empty.model_copy(update={"members": {"n-00000": MEMBER, "n-00001": MEMBER}})
    each = len(encode(two)) - len(encode(two.model_copy(update={"members": {"n-00000": MEMBER}})))
    number = (MAX_INVITING_BYTES - len(encode(empty))) // each
    return empty.model_copy(update={"members": {f"n-{place:05d}": MEMBER for place in range(number)}})


def test_a_full_list_takes_nobody_and_lets_everybody_stay(full: Members) -> None:
    assert len(full.members) > 10_000
    for name in ("newcomer", "n-00000"):
        with pytest.raises(UserInputError, match="can hold no more"):
            enrolled(full, invitation(name), invite=KEY.public, now_s=NOW_S)
    renewed = enrolled(full, invitation("n-00000"), invite=None, now_s=NOW_S)
    assert renewed.members["n-00000"].valid_until_s == NOW_S + 2


def test_everybody_in_a_full_list_can_be_revoked(full: Members) -> None:
    one = revoked(full, "n-00000", since_s=None, reason="", now_s=NOW_S).members["n-00000"]
    assert one.revoked == Revocation(at_s=NOW_S, since_s=NOW_S)
    after = full.model_copy(update={"members": dict.fromkeys(full.members, one)})
    [(_, envelope)] = arrange([Document.of("members", after)]).signed([KEY]).envelopes()
    assert len(verified(envelope, "members", [KEY.public], what="members")) > MAX_INVITING_BYTES
