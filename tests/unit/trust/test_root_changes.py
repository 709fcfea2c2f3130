"""What operators may change of a root, and when the list of members follows."""

from __future__ import annotations

import pytest
from federation_keys import NOW_S, TinyTrust

from coldfuse.core.serialization import encode
from coldfuse.errors import SignatureError, UserInputError
from coldfuse.trust.envelope import sign
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import Members
from coldfuse.trust.root import RoleName, Root, next_root
from coldfuse.trust.root_changes import (
    changes,
    find_key,
    renewed,
    still_to_sign,
    with_key,
    with_other_key,
    with_threshold,
    without_key,
)
from coldfuse.trust.view import members_key, root_key

NEW = PrivateKey.generate()


def two_of_two(trust: TinyTrust, second: PrivateKey, role: RoleName = "root") -> Root:
    added = with_key(trust.root, role, second.public, now_s=NOW_S)
    return with_threshold(added, role, 2, now_s=NOW_S).model_copy(update={"version": 2})


def test_a_root_needs_the_keys_of_both_versions() -> None:
    trust = TinyTrust()
    after = two_of_two(trust, NEW)
    old, new = trust.operator.public.id, NEW.public.id
    assert still_to_sign(trust.root, after, [old, new]) == []
    assert len(still_to_sign(trust.root, after, [old])) == 1
    assert new[:12] in still_to_sign(trust.root, after, [old])[0]
    assert len(still_to_sign(trust.root, after, [new])) == 2
    with pytest.raises(SignatureError, match="expected 2"):
        next_root(trust.root, sign(encode(after), "root", [trust.operator]))
    assert next_root(trust.root, sign(encode(after), "root", [trust.operator, NEW])) == after


def test_what_would_leave_a_role_unsignable_is_refused() -> None:
    trust = TinyTrust()
    with pytest.raises(UserInputError, match="add another key before"):
        without_key(trust.root, "operator", trust.operator.public.id[:8], now_s=NOW_S)
    for number in (0, 2, -1):
        with pytest.raises(UserInputError, match="expected 1 to 1"):
            with_threshold(trust.root, "operator", number, now_s=NOW_S)
    with pytest.raises(UserInputError, match="one key at a time"):
        with_threshold(trust.root, "aggregator", 1, now_s=NOW_S)
    with pytest.raises(UserInputError, match="signs by ed25519"):
        with_key(trust.root, "model", NEW.public, now_s=NOW_S)
    with pytest.raises(UserInputError, match="signs for operator already"):
        with_key(trust.root, "operator", trust.operator.public, now_s=NOW_S)
    with pytest.raises(UserInputError, match="expired already"):
        renewed(trust.root, expires_at_s=NOW_S - 1, now_s=NOW_S)


@pytest.mark.parametrize("given", ["", "xyz", "0" * 64])
def test_a_key_that_is_not_there_is_said_with_those_that_are(given: str) -> None:
    trust = TinyTrust()
    with pytest.raises(UserInputError, match=trust.operator.public.id[:12]):
        find_key(trust.root, "operator", given)


def test_a_new_key_has_every_role_of_the_one_before_it_and_no_other() -> None:
    trust = TinyTrust()
    after = with_other_key(trust.root, trust.operator.public.id, NEW.public, now_s=NOW_S)
    assert after.roles["root"].keys == after.roles["operator"].keys == (NEW.public.id,)
    assert after.roles["aggregator"] == trust.root.roles["aggregator"]
    assert trust.operator.public.id not in after.keys
    assert list(changes(trust.root, after)) == [
        f"{role}: key {key.public.id[:12]} is {what}"
        for role in ("root", "operator")
        for key, what in ((NEW, "added"), (trust.operator, "removed"))
    ]


def test_members_are_known_after_the_operator_has_another_key() -> None:
    trust = TinyTrust()
    trust.enroll("alice")
    view = trust.view()
    seen = view.refresh().members
    after = with_other_key(trust.root, trust.operator.public.id, NEW.public, now_s=NOW_S)
    trust.stored[root_key(2)] = sign(encode(after), "root", [trust.operator, NEW])
    with pytest.raises(SignatureError):  # the list is signed by who is operator no more
        view.refresh()
    again = seen.model_copy(update={"version": seen.version + 1})
    trust.stored[members_key(again.version)] = sign(encode(again), "members", [NEW])
    for reader in (view, trust.view()):
        assert list(reader.refresh().members.members) == ["alice"]


@pytest.mark.parametrize("versions", [1, 2, 3, 7, 8, 9, 20])
def test_the_highest_list_is_found_in_few_reads(versions: int) -> None:
    trust, reads = TinyTrust(), []
    for version in range(2, versions + 1):
        members = Members(version=version, federation=trust.fingerprint)
        trust.stored[members_key(version)] = sign(encode(members), "members", [trust.operator])
    view = trust.view()
    view._read = lambda key: reads.append(key) or trust.stored.get(key)  # type: ignore[func-returns-value]
    assert view.refresh().members.version == versions
    assert len(reads) <= 14
    assert view.refresh().members.version == versions
