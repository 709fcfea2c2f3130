"""Whether what somebody has sent counts: a member who may contribute, at that time, and within a quota.

Pure: who has signed is proven before (`view`). Rights at the moment of a request are another question (`rights`); here
it is about what was sent some time ago.
"""

from __future__ import annotations

from collections.abc import Sequence

from coldfuse.trust.members import Member, Members, Quota
from coldfuse.trust.rights import SENDERS, Asker

DAY_S = 86400.0


def why_not_counted(asker: Asker, *, is_open: bool, at_s: float) -> str | None:
    """Return why what a member has sent does not count, or None.

    Args:
        asker: Who has signed it.
        is_open: Whether the federation is open.
        at_s: When it was sent, in seconds since 1970.
    """
    if asker.member is None:
        return None if is_open else f"{asker.name} is no member of this federation; ask its operator for an invitation"
    if reason := why_revoked(asker.name, asker.member, at_s=at_s):
        return reason
    if at_s > asker.member.valid_until_s:
        return f"the membership of {asker.name} had expired when this was sent; an operator renews it: coldfuse enroll"
    if asker.member.role not in SENDERS:
        return (
            f"{asker.name} is {asker.member.role} in this federation, and only a {' or '.join(sorted(SENDERS))} may "
            "contribute; ask an operator for that role"
        )
    return None


def why_revoked(name: str, member: Member, *, at_s: float) -> str | None:
    """Return that what a member has sent at this time is revoked, or None."""
    revoked = member.revoked
    if revoked is None or at_s < revoked.since_s:
        return None
    why = f" ({revoked.reason})" if revoked.reason else ""
    return f"an operator has revoked {name}{why}, with all that was sent since then; ask them for a new invitation"


def why_taken_back(members: Members, name: str, *, at_s: float) -> str | None:
    """Return why what was admitted of a member counts no more, or None.

    Args:
        members: The newest list.
        name: Whose it is.
        at_s: When it was sent: the invitation that held then decides.
    """
    held = [member for former, member in members.former if former == name]
    if (current := members.members.get(name)) is not None:
        held.append(current)
    then = [member for member in held if member.invited_at_s <= at_s] or held[:1]
    return why_revoked(name, max(then, key=lambda member: member.invited_at_s), at_s=at_s) if then else None


def why_too_large(quota: Quota, size_bytes: int) -> str | None:
    """Return why a contribution is over its member's quota, or None."""
    most = quota.contribution_bytes
    if most is None or size_bytes <= most:
        return None
    return f"it has {size_bytes:,} bytes, and this member may send {most:,}; choose a smaller encoding, or ask for more"


def why_too_many(quota: Quota, sent_at_s: Sequence[float], *, now_s: float) -> str | None:
    """Return why a member may send no more contributions now, or None.

    Args:
        quota: The member's.
        sent_at_s: When it sent each of those before, in seconds since 1970.
        now_s: The time now.
    """
    most, recent = quota.contributions_per_day, sorted(at_s for at_s in sent_at_s if at_s > now_s - DAY_S)
    if most is None or len(recent) < most:
        return None
    wait_s = recent[len(recent) - most] + DAY_S - now_s
    return (
        f"this member may send {most} contributions in 24 hours, and has sent {len(recent)}; the next may come in "
        f"{wait_s / 3600:.1f} h"
    )
