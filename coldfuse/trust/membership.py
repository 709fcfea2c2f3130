"""The next list of members: who is invited, renewed or revoked, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coldfuse.core.names import Identity
from coldfuse.core.serialization import encode
from coldfuse.errors import UserInputError
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.members import MAX_INVITING_BYTES, Member, MemberRole, Members, Quota, Revocation
from coldfuse.trust.root import ROLES


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """What somebody is enrolled with."""

    who: Identity
    role: MemberRole | None
    """As what; None: as before, or as contributor."""
    quota: Quota
    """Bounds; those that are None are as before."""
    join_by_s: float
    """Seconds since 1970 until which a key may be bound."""
    valid_until_s: float
    """Seconds since 1970 until which it is a member."""


Enrolment = Literal["invited", "invited anew", "renewed"]


def decide(member: Member | None, *, has_joined: bool, is_new_key: bool) -> tuple[Enrolment, str]:
    """Decide what enrolling a name does, and why.

    Args:
        member: Who has the name now.
        has_joined: Whether a key is bound to it.
        is_new_key: Whether the operator says that the key is lost.
    """
    if member is None:
        return "invited", "the name is new"
    if member.revoked is not None:
        return "invited anew", "it was revoked; its old key stays revoked"
    if not has_joined:
        return "invited anew", "it has not joined yet; the token of before is worth nothing any more"
    if is_new_key:
        return "invited anew", "it gets another key; its old one is worth nothing any more"
    return "renewed", "it has joined, and keeps its key; no token is needed (--new-key where it has lost that key)"


def require_no_role(name: str) -> None:
    """Raise `UserInputError` for a name under which a role's key lies: that one would be taken for the member's."""
    if name in ROLES:
        raise UserInputError(f"{name}: is the name of a role, whose key lies under it; choose another")


def enrolled(members: Members, invitation: Invitation, *, invite: PublicKey | None, now_s: float) -> Members:
    """Return the next list, with somebody invited or renewed.

    Args:
        members: The list as it is.
        invitation: Whom, as what.
        invite: Public half of a new invitation's key; None: renewed, by the key that is bound already.
        now_s: Seconds since 1970.

    Raises:
        UserInputError: The name is one that roles have, or the list is as long as it can be.
    """
    name = invitation.who.id
    require_no_role(name)
    before = members.members.get(name)
    new = _member(before, invitation, invite=invite, now_s=now_s)
    is_replaced = before is not None and invite is not None
    after = members.model_copy(update={
        "version": members.version + 1,
        "members": members.members | {name: new},
        "former": (*members.former, (name, before)) if is_replaced else members.former,
    })  # fmt: skip
    if invite is not None and len(encode(after)) > MAX_INVITING_BYTES:
        raise UserInputError(
            f"{name}: there are {len(members.members):,} members and {len(members.former):,} former invitations, and "
            "the list can hold no more; those that there are can be renewed and revoked"
        )
    return after


def revoked(members: Members, name: str, *, since_s: float | None, reason: str, now_s: float) -> Members:
    """Return the next list, with a membership taken away; revoking again moves what is given, and that alone.

    Args:
        members: The list as it is.
        name: Whose.
        since_s: Seconds since 1970 from which on nothing of it counts; None: as before, or now.
        reason: Why; empty: as before.
        now_s: Seconds since 1970.

    Raises:
        UserInputError: There is no such member, or it would count from the future on.
    """
    member = members.members.get(name)
    if member is None:
        raise UserInputError(f"{name}: is no member; `coldfuse members` lists who is")
    before = member.revoked
    if since_s is None:
        since_s = now_s if before is None else before.since_s
    if since_s > now_s:
        raise UserInputError("--since is in the future; a membership is taken away now, or for what was before")
    revocation = Revocation(at_s=now_s, since_s=since_s, reason=reason or (before.reason if before else ""))
    changed = member.model_copy(update={"revoked": revocation})
    former = tuple(
        (who, _revoked_too(before, revocation) if who == name else before) for who, before in members.former
    )  # fmt: skip
    return members.model_copy(update={
        "version": members.version + 1, "members": members.members | {name: changed}, "former": former
    })  # fmt: skip


def _revoked_too(former: Member, revocation: Revocation) -> Member:
    """Return a former invitation of somebody who is revoked: it may be under that one that the key was stolen."""
    if former.revoked is not None and former.revoked.since_s <= revocation.since_s:
        return former
    return former.model_copy(update={"revoked": revocation})


def _member(before: Member | None, invitation: Invitation, *, invite: PublicKey | None, now_s: float) -> Member:
    bounds = {name: value for name, value in invitation.quota.model_dump().items() if value is not None}
    quota = (before.quota if before else Quota()).model_copy(update=bounds)
    role = invitation.role or (before.role if before else "contributor")
    if before is not None and invite is None:
        return before.model_copy(update={
            "role": role, "quota": quota, "valid_until_s": invitation.valid_until_s
        })  # fmt: skip
    if invite is None:
        raise UserInputError(f"{invitation.who.id}: is no member who could be renewed")
    return Member(
        display_name=invitation.who.display_name, role=role, quota=quota, invite=invite, invited_at_s=now_s,
        join_by_s=invitation.join_by_s, valid_until_s=invitation.valid_until_s,
    )  # fmt: skip
