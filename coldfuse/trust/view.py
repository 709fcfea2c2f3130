"""What is known of a federation's root and members, read from wherever they lie and verified.

Gateways and aggregators read the store, nodes and consumers ask a gateway that they need not trust; the rules are the
same. Nothing that was seen is taken back: a version is never followed by a lower one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldfuse.core.serialization import decode
from coldfuse.core.signature import Signature
from coldfuse.errors import NotAllowedError, RollbackError, SignatureError
from coldfuse.trust.envelope import Kind, verify_detached
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.members import MAX_ROTATIONS, KeyStatement, Member, Members, keys_folder, read_statements
from coldfuse.trust.reading import ReadSigned, bounded, find_newest
from coldfuse.trust.rights import Asker
from coldfuse.trust.root import MAX_ROOTS, RoleKeys, RoleName, Root, fingerprint_of, first_root, next_root

SKEW_S = 300.0
"""Seconds by which the clocks of two machines may differ."""


def root_key(version: int) -> str:
    """Return the key of a version of the root."""
    return f"root/{version}.json"


def members_key(version: int) -> str:
    """Return the key of a version of the list of members."""
    return f"members/{version}.json"


@dataclass(frozen=True)
class Known:
    """The newest root and members that were seen."""

    fingerprint: str
    """Fingerprint of the federation."""
    root: Root
    members: Members


@dataclass(frozen=True)
class _Keys:
    """A member's keys, verified."""

    envelopes: tuple[bytes, ...] = ()
    statements: tuple[KeyStatement, ...] = ()


_NO_KEYS = _Keys()


class TrustView:
    """The root and the members of one federation, as one reader sees them. Threads may share it."""

    def __init__(
        self, read: ReadSigned, *, fingerprint: str | None, root: Root | None = None, members: int = 0
    ) -> None:
        """Take what is known; nothing is read yet.

        Args:
            read: Reads what is stored under a key.
            fingerprint: What the federation is known by; None to believe the first root that is read.
            root: The newest root that was seen before: the chain has to lead through it, so that who has stolen the
                keys of an older one cannot make another next one.
            members: The newest version of the list of members that was seen before.
        """
        self._read = bounded(read)
        self._lock = threading.Lock()
        self._fingerprint = fingerprint
        self._kept = root
        self._root: Root | None = None
        self._root_data: bytes | None = None
        self._members: Members | None = None
        self._least_members = members
        self._keys: dict[str, _Keys] = {}  # by folder: none is ever changed
        self._read_at_s = float("-inf")
        self._ever: dict[RoleName, dict[str, tuple[int, PublicKey]]] = {}

    def refresh(self, *, members: int = 0) -> Known:
        """Read what is new.

        Args:
            members: A version of the list of members that there is, as something signed says.

        Raises:
            SignatureError: What is stored is not signed as it has to be.
            RollbackError: A version that was seen before is gone.
        """
        with self._lock:
            began_s = time.monotonic()
            root = self._follow_root()
            self._least_members = max(self._least_members, members)
            found = self._members = self._newest_members(root)
            self._read_at_s = began_s
            return Known(self._fingerprint or "", root, found)

    def refresh_root(self) -> tuple[Root, bytes | None]:
        """Read what is new of the root alone; return it, and its envelope where it was read and not given.

        Raises:
            SignatureError: What is stored is not signed as it has to be.
        """
        with self._lock:
            return self._follow_root(), self._root_data

    def ever(self, role: RoleName) -> Mapping[str, tuple[int, PublicKey]]:
        """Return all keys that the roots so far have named for a role, by id, each with the newest such root."""
        with self._lock:
            return dict(self._ever.get(role, {}))

    def all_keys(self, role: RoleName) -> list[PublicKey]:
        """Return all keys that the roots so far have named for a role: what was signed long ago is by one of them."""
        return [key for _, key in self.ever(role).values()]

    def recent(self, *, max_age_s: float) -> Known:
        """Return what was read at most so long ago; reads what is new if that is older. Raises as `refresh`."""
        with self._lock:
            is_recent = self._members is not None and time.monotonic() - self._read_at_s < max_age_s
        return self.known() if is_recent else self.refresh()

    def known(self) -> Known:
        """Return what was read last; reads if nothing was."""
        with self._lock:
            if self._root is not None and self._members is not None:
                return Known(self._fingerprint or "", self._root, self._members)
        return self.refresh()

    def statements(self, name: str, member: Member | None) -> list[KeyStatement]:
        """Return the keys that a member has had, oldest first; `member` is None in an open federation."""
        invite = member.invite if member else None
        folder = keys_folder(name, invite)
        with self._lock:
            held = self._keys.get(folder, _NO_KEYS)
        known = list(held.envelopes)
        for number in range(len(known), MAX_ROTATIONS):
            data = self._read(f"{folder}{number}.json")
            if data is None:
                break
            known.append(data)
        if len(known) == len(held.envelopes):
            return list(held.statements)
        found = read_statements(known, member=name, invite=invite, federation=self.known().fingerprint)
        with self._lock:
            self._keys[folder] = _Keys(tuple(known), tuple(found))
        return found

    def find(self, name: str, keyid: str, *, at_s: float | None = None) -> Asker:
        """Return who a member is by name and key.

        Args:
            name: The member's name.
            keyid: Id of its key.
            at_s: When something was signed, in seconds since 1970, for which older keys of a member still count; None:
                now, when only the newest one does.

        Raises:
            NotAllowedError: There is no such member, or the key is none of its own (any more).
        """
        known = self.known()
        candidates: list[Member | None] = [None] if known.root.is_open and name not in known.members.members else []
        candidates += _invitations_at(known.members, name, at_s)
        for member in candidates:
            statements = self.statements(name, member)
            valid = statements[-1:] if at_s is None else _held_at(statements, at_s)
            if any(statement.key.id == keyid for statement in valid):
                return Asker(name=name, member=member, keyid=keyid)
        if not candidates:
            raise NotAllowedError(f"{name}: is no member of this federation; ask its operator for an invitation")
        raise NotAllowedError(
            f"{name}: key {keyid[:12]} is none of this member's (any more); use its newest key, or ask an operator for "
            "a new invitation"
        )

    def key_of(self, asker: Asker) -> KeyStatement:
        """Return the statement of the key that a member was found by."""
        with self._lock:
            found = self._keys[keys_folder(asker.name, asker.member.invite if asker.member else None)].statements
        return next(statement for statement in found if statement.key.id == asker.keyid)

    def verify(
        self,
        payload: bytes,
        kind: Kind,
        signature: Signature | None,
        *,
        name: str,
        what: str,
        at_s: float | None = None,
    ) -> Asker:
        """Return who has signed a payload as a member; rights are the caller's to check.

        Raises:
            SignatureError: Nobody has signed it, or the signature does not fit.
            NotAllowedError: The key is not that member's.
        """
        if signature is None:
            raise SignatureError(f"{what}: is not signed; every contribution to this federation has to be")
        asker = self.find(name, signature.keyid, at_s=at_s)
        verify_detached(payload, kind, [signature], keys=[self.key_of(asker).key], what=what)
        return asker

    def _follow_root(self) -> Root:
        root, data = self._root, self._root_data
        if root is None:
            data = self._read(root_key(1))
            if data is None:
                raise SignatureError("there is no root 1: this federation has no root, or somebody hides it")
            root = first_root(data, self._fingerprint)
            self._note(root)
            self._fingerprint = self._fingerprint or fingerprint_of(data)
        for _ in range(MAX_ROOTS + (self._kept.version if self._kept else 0)):
            following = self._read(root_key(root.version + 1))
            if following is None:
                break
            root, data = next_root(root, following), following
            self._note(root)
        if self._root is not None:
            self._change_operators(self._root.roles["operator"], root.roles["operator"])
        self._root, self._root_data = root, data
        return root

    def _change_operators(self, before: RoleKeys, after: RoleKeys) -> None:
        if before == after:
            return
        if set(before.keys) <= set(after.keys):
            self._least_members = max(self._least_members, self._members.version if self._members else 0)
        else:  # by a stolen key lists may have been counted far ahead
            self._least_members = 0
        self._members = None  # other operators have signed it: it is verified once more

    def _note(self, root: Root) -> None:
        if self._kept is not None and root.version == self._kept.version and root != self._kept:
            raise SignatureError(
                f"root {root.version}: is another one than was seen before, though it is signed; somebody has the keys "
                "of an older root, or the store was put back to an older state and went on from there"
            )
        for role in root.roles:
            self._ever.setdefault(role, {}).update({key.id: (root.version, key) for key in root.keys_of(role)})

    def _newest_members(self, root: Root) -> Members:
        """Return the newest list; older ones may be signed by keys that were replaced since, and are not looked at."""
        known = self._members.version if self._members else 0
        least = max(known, self._least_members, 1)
        data = None if least == known else self._read(members_key(least))
        if data is None and least > known:
            raise RollbackError(
                f"members {least}: was seen before, or is named by what is newer, and is not there; somebody hides "
                "it, or the store was put back to an older state"
            )
        version, newest = find_newest(lambda number: self._read(members_key(number)), least, data)
        if newest is None and self._members is not None:
            return self._members
        return self._open_members(newest or b"", version, root)

    def _open_members(self, data: bytes, version: int, root: Root) -> Members:
        what = f"members {version}"
        found = decode(Members, root.verified(data, "members", "operator", what=what), what=what)
        if (found.version, found.federation) != (version, self._fingerprint):
            raise SignatureError(f"{what}: is version {found.version} of {found.federation[:12]}, put in another place")
        return found


def _invitations_at(members: Members, name: str, at_s: float | None) -> list[Member]:
    """Return the newest invitation of a name, and those before it that had not been replaced by then."""
    current = members.members.get(name)
    newest = [] if current is None else [current]
    held = [*(member for former, member in members.former if former == name), *newest]
    if at_s is None:
        return newest
    ends = [*(after.invited_at_s + SKEW_S for after in held[1:]), float("inf")]
    return [member for member, end_s in zip(held, ends, strict=False) if at_s <= end_s][::-1]


def _held_at(statements: Sequence[KeyStatement], at_s: float) -> list[KeyStatement]:
    """Return those keys that had not been replaced by then, for longer than clocks may differ."""
    ends = [*(after.made_at_s + SKEW_S for after in statements[1:]), float("inf")]
    # A name that is free has no key, and no end of one.
    return [statement for statement, end_s in zip(statements, ends, strict=False) if at_s <= end_s]
