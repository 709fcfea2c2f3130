"""Who may ask what: one table, and the decision on it.

The table is the whole of it: what is not in it is refused.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from coldfuse.errors import NotAllowedError
from coldfuse.trust.members import Member, MemberRole

READERS: frozenset[MemberRole] = frozenset({"consumer", "contributor", "evaluator", "operator"})
SENDERS: frozenset[MemberRole] = frozenset({"contributor", "operator"})

SCORERS: frozenset[MemberRole] = frozenset({"evaluator", "operator"})

RIGHTS: dict[str, frozenset[MemberRole]] = {
    "GetStatus": READERS,
    "GetRelease": READERS,
    "ListReleases": READERS,
    "ReadObject": READERS,
    "GetSigned": READERS,
    "FindMissing": SENDERS,
    "UploadPart": SENDERS,
    "Commit": SENDERS,
    "GetVerdict": SENDERS,
    "PutCheck": frozenset({"contributor", "evaluator", "operator"}),
    "PutScore": SCORERS,
    "GetCandidate": SCORERS,
    "Rotate": READERS,
    "ServerReflection": READERS,
}
"""Roles that may call each method. GetRelease and ReadObject of what waits at the gate are "GetCandidate". GetSigned of
a root is "GetRoot", and Join of a key that is not a member's first one is "Rotate", for that member; services of gRPC's
own go by their names."""

STRANGERS = frozenset({"GetRoot", "Join", "Health"})
"""What everybody may call: what is verified by who gets it, what proves itself by an invitation, and whether there is
anybody, which says no more than an open port."""

OPEN_TO_READ = frozenset({"GetStatus", "GetRelease", "ListReleases", "ReadObject", "GetSigned", "ServerReflection"})
"""What everybody may call where the federation is open."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Who asks, as far as it is proven."""

    name: str
    """Name of the member."""
    member: Member | None
    """The member; None for a key of an open federation, or of the root."""
    keyid: str
    """Id of the key that signed."""
    is_of_root: bool = False
    """Whether the key is one that the root names for operators: who can invite everybody need not be invited."""

    @property
    def role(self) -> MemberRole | None:
        """As what it asks; None for a key of an open federation."""
        if self.is_of_root:
            return "operator"
        return self.member.role if self.member is not None else None


def is_current(asker: Asker, *, now_s: float) -> bool:
    """Tell whether who asks is a member now: neither revoked nor expired; whoever an open federation knows is one."""
    member = asker.member
    return member is None or (member.revoked is None and now_s <= member.valid_until_s)


def require_right(method: str, asker: Asker | None, *, is_open: bool, now_s: float) -> None:
    """Raise `NotAllowedError`, with the reason and what to do, unless this method may be called.

    Args:
        method: Name of the method.
        asker: Who asks; None for a request that nobody has signed.
        is_open: Whether the federation is open.
        now_s: Seconds since 1970.
    """
    if method in STRANGERS or (is_open and method in OPEN_TO_READ):
        return
    if asker is None:
        raise NotAllowedError(
            f"{method}: this federation is closed, and the request is signed by nobody; ask its operator for an "
            "invitation (coldfuse enroll), then: coldfuse join TOKEN_FILE"
            if not is_open
            else f"{method}: the request is signed by nobody; give a name, and a key is made for it (--name)"
        )
    if asker.member is None:
        _require_role(method, asker.name, asker.role or ("contributor" if is_open else None))
        return
    if (revoked := asker.member.revoked) is not None:
        why = f" ({revoked.reason})" if revoked.reason else ""
        raise NotAllowedError(f"{asker.name}: was revoked by an operator{why}; ask them for a new invitation")
    if now_s > asker.member.valid_until_s:
        raise NotAllowedError(f"{asker.name}: the membership has expired; an operator renews it with coldfuse enroll")
    _require_role(method, asker.name, asker.member.role)


def _require_role(method: str, name: str, role: MemberRole | None) -> None:
    allowed: Set[MemberRole] = RIGHTS.get(method, frozenset())
    if role not in allowed:
        who = " or ".join(sorted(allowed)) or "nobody"
        raise NotAllowedError(
            f"{name}: is {role or 'no member'}, and {method} is for {who}; ask an operator for that role"
        )
