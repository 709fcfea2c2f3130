"""The list of members and their keys in the store."""

from __future__ import annotations

import time
from collections import Counter

from coldfuse.core.serialization import decode
from coldfuse.errors import NotAllowedError
from coldfuse.registry.settings import read_settings
from coldfuse.registry.trust import signed_reader, view_of
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.trust.envelope import read_envelope
from coldfuse.trust.members import KEYS, MAX_ROTATIONS, KeyStatement, Member, Members, keys_folder, read_statements
from coldfuse.trust.view import Known, TrustView


def read_members(store: ObjectStore) -> Members:
    """Read the newest list of members, verified.

    Raises:
        FederationError: The store holds no federation.
        NotAllowedError: The federation has no root.
        TrustError: What is there is not signed as it has to be.
    """
    return _view(store).refresh().members


def bind_key(store: ObjectStore, envelope: bytes, *, view: TrustView | None = None, now_s: float | None = None) -> bool:
    """Record that a key is a member's, once that is proven.

    Args:
        store: The federation's store.
        envelope: The statement (`trust.members.state_key`).
        view: The view on the federation, where there is one already.
        now_s: Seconds since 1970; None: by this machine's clock.

    Returns:
        True if it is new, False if that was known.

    Raises:
        NotAllowedError: Nobody has invited this member, the invitation has expired or was used, or it was revoked.
        SignatureError: It is not signed as it has to be.
        CodecError: It is no statement.
    """
    view = view or _view(store)
    what = "the statement about a key"
    statement = decode(KeyStatement, read_envelope(envelope, what=what).content("member-key", what=what), what=what)
    known = view.refresh()
    member = known.members.members.get(statement.member)
    folder = keys_folder(statement.member, member.invite if member else None)
    read = signed_reader(store)
    if read(f"{folder}{statement.number}.json") == envelope:
        return False  # whoever was killed before they heard of it may ask again, however much later
    _require_invited(known, statement, envelope, time.time() if now_s is None else now_s)
    before = view.statements(statement.member, member)
    if statement.number < len(before):
        if before[statement.number].key.id == statement.key.id:
            return False
        raise NotAllowedError(_used(statement, before[statement.number]))
    earlier = [read(f"{folder}{number}.json") or b"" for number in range(min(statement.number, len(before)))]
    read_statements(
        [*earlier, envelope], member=statement.member, invite=member.invite if member else None,
        federation=known.fingerprint,
    )  # fmt: skip
    if store.put_if_absent(f"{folder}{statement.number}.json", envelope):
        return True
    there = view.statements(statement.member, member)[statement.number]
    if there.key.id == statement.key.id:
        return False
    raise NotAllowedError(_used(statement, there))


def count_keys(store: ObjectStore) -> Counter[str]:
    """Return how many keys each member has had, by the folder that these lie in; one listing, and nothing is read."""
    return Counter(f"{key.rpartition('/')[0]}/" for key in list_keys(store, KEYS))


def _view(store: ObjectStore) -> TrustView:
    view = view_of(store, read_settings(store)[0])
    if view is None:
        raise NotAllowedError(f"{store.url}: this federation has no root, and so no members; coldfuse init --adopt")
    return view


def _require_invited(known: Known, statement: KeyStatement, envelope: bytes, now_s: float) -> None:
    """Raise `NotAllowedError` unless the member that a statement is about may have a key (any more)."""
    name = statement.member
    if statement.federation != known.fingerprint:
        raise NotAllowedError(
            f"{name}: the key is for the federation {statement.federation[:12]}, this is {known.fingerprint[:12]}"
        )
    member = known.members.members.get(name)
    if member is None:
        if known.root.is_open:
            return
        raise NotAllowedError(f"{name}: nobody has invited this member; ask an operator for an invitation")
    if member.revoked is not None:
        raise NotAllowedError(f"{name}: was revoked by an operator; ask them for a new invitation")
    if now_s > member.valid_until_s:
        raise NotAllowedError(f"{name}: the membership has expired; an operator renews it with coldfuse enroll")
    _require_newest_invitation(member, statement, envelope, now_s)
    if statement.number >= MAX_ROTATIONS - 1:
        raise NotAllowedError(f"{name}: has had {MAX_ROTATIONS:,} keys; ask an operator for a new invitation")


def _require_newest_invitation(member: Member, statement: KeyStatement, envelope: bytes, now_s: float) -> None:
    if statement.number > 0:
        return
    signers = [each.keyid for each in read_envelope(envelope, what="the statement about a key").signatures]
    if member.invite.id not in signers:
        raise NotAllowedError(
            f"{statement.member}: this invitation is worth nothing any more: an operator has made a newer one, or it "
            "was never theirs; ask for another"
        )
    if now_s > member.join_by_s:
        raise NotAllowedError(f"{statement.member}: the invitation has expired; ask an operator for another")


def _used(statement: KeyStatement, there: KeyStatement) -> str:
    if statement.number == 0:
        return (
            f"{statement.member}: this name belongs to the key {there.key.id[:12]} already, not to "
            f"{statement.key.id[:12]}; join with that key, or ask an operator for a new invitation"
        )
    return (
        f"{statement.member}: key {statement.number} is {there.key.id[:12]} already, not {statement.key.id[:12]}; "
        "rotate from the newest key"
    )
