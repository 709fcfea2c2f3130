"""The lists of members and the members' keys: every version, and who may have sent what when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coldfuse.core.serialization import decode
from coldfuse.core.signature import Signature
from coldfuse.errors import CodecError, ColdfuseError, NotAllowedError, SignatureError, TrustError
from coldfuse.storage.base import list_keys
from coldfuse.trust.envelope import Kind
from coldfuse.trust.members import Member, Members
from coldfuse.trust.rights import Asker
from coldfuse.trust.view import SKEW_S, TrustView, members_key
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.signers import Signers


def look_at_members(look: Inspection, signers: Signers) -> TrustView | None:
    """Look at every list of members, and at all their keys; None where nobody knows the members.

    Returns:
        The members as they are now, by whom signatures are verified.
    """
    numbers = sorted(_numbers(look))
    for missing in look.gaps(numbers, 1, max(numbers, default=1)):
        look.add(
            Cause.GAP, members_key(1) if missing == "1" else f"members {missing}", "is missing: lists have no gaps"
        )
    for number in numbers:
        _look_at_list(look, signers, number)
    view = TrustView(look.read, fingerprint=signers.fingerprint, root=signers.newest)
    try:
        members = view.refresh().members
    except ColdfuseError as error:
        look.error(members_key(max(numbers, default=1)), error)
        return None
    for name, member in _all_members(members):
        with look.noting(f"keys of {name}"):
            look.looked_at["keys of members"] += len(view.statements(name, member))
    _look_at_open_keys(look, view, is_open=signers.newest.is_open)
    return view


@dataclass(frozen=True)
class Signed:
    """Who says that they have signed something, and when."""

    name: str
    signature: Signature | None
    at_s: float
    """Seconds since 1970 at which it counts as signed."""


def find_signer(
    look: Inspection, view: TrustView, payload: bytes, kind: Kind, signed: Signed, *, where: str
) -> Asker | None:
    """Return the member who has signed something; None, and why is noted, where that was no member's to sign."""
    name, at_s = signed.name, signed.at_s
    try:
        asker = view.verify(payload, kind, signed.signature, name=name, what=where, at_s=at_s)
    except NotAllowedError as error:
        was_theirs = False
        with look.noting(where):
            was_theirs = signed.signature is not None and signed.signature.keyid in _keys_ever(view, name)
        look.add(Cause.REVOKED if was_theirs else Cause.UNKNOWN_KEY, where, str(error))
        return None
    except (SignatureError, CodecError) as error:
        look.error(where, error)
        return None
    member = asker.member
    if member is None:
        return asker
    if member.revoked is not None and at_s >= member.revoked.since_s:
        look.add(Cause.REVOKED, where, f"{name} is revoked since before this was sent; publish a release without it")
    elif member.revoked is not None:
        look.note(f"{name} was revoked after {where} was sent")
    if at_s > member.valid_until_s + SKEW_S:
        look.add(Cause.EXPIRED, where, f"the membership of {name} had expired when this was sent")
    return asker


def _keys_ever(view: TrustView, name: str) -> set[str]:
    """Return the ids of all keys that a name has ever had."""
    known = view.known()
    held: list[Member | None] = [member for former, member in known.members.former if former == name]
    held.append(known.members.members.get(name))
    return {statement.key.id for member in held for statement in view.statements(name, member)}


def _numbers(look: Inspection) -> Iterator[int]:
    for key in list_keys(look.store, "members/"):
        name = key.removeprefix("members/").removesuffix(".json")
        if name.isdecimal():
            yield int(name)


def _look_at_open_keys(look: Inspection, view: TrustView, *, is_open: bool) -> None:
    """Look at the keys that nobody was invited for: in an open federation a name is whose key was first."""
    folder = "members/keys/"
    for key in list_keys(look.store, folder):
        if key in look.keys:
            continue
        name = key.removeprefix(folder).partition("/")[0].removeprefix("open-")
        if is_open and key.startswith(f"{folder}open-"):
            with look.noting(key):
                look.looked_at["keys of members"] += len(view.statements(name, None))
        if key not in look.keys:
            look.note(f"{key}: is of nobody who was invited, and vouches for nothing")


def _look_at_list(look: Inspection, signers: Signers, number: int) -> None:
    key = members_key(number)
    data = look.read(key)
    if data is None:
        return
    look.looked_at["lists of members"] += 1
    try:
        payload, _ = signers.verified(data, "members", "operator", what=key)
        members = decode(Members, payload, what=key)
    except (TrustError, CodecError) as error:
        look.error(key, error)
        return
    if (members.version, members.federation) != (number, signers.fingerprint):
        look.add(Cause.SIGNATURE, key, f"is version {members.version} of {members.federation[:12]}, put elsewhere")


def _all_members(members: Members) -> Iterator[tuple[str, Member]]:
    yield from members.members.items()
    yield from members.former
