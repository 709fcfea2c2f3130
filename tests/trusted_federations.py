"""Federations with a root, and their members, in real stores."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from federations import make_federation

from coldfuse.registry.federation import Federation
from coldfuse.registry.members import bind_key, read_members, write_members
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import KeyStatement, Member, MemberRole, Revocation, state_key

DAY_S = 86400.0


def make_founders(*, is_open: bool = False) -> FounderKeys:
    """Return new keys of one operator and one aggregator."""
    return FounderKeys(
        operators=[PrivateKey.generate()], aggregator=PrivateKey.generate(), model=PrivateKey.generate_p256(),
        is_open=is_open,
    )  # fmt: skip


@dataclass
class TrustedFederation:
    """A federation, and the private keys of all."""

    store: ObjectStore
    is_open: bool = False
    name: str | None = None
    federation: Federation = field(init=False)
    founders: FounderKeys = field(init=False)
    invites: dict[str, PrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.founders = make_founders(is_open=self.is_open)
        self.federation = make_federation(self.store, trust=self.founders, name=self.name)

    @property
    def fingerprint(self) -> str:
        return self.federation.settings.root or ""

    def change_members(self, changes: Mapping[str, Member]) -> None:
        """Sign the list of members with these changes."""
        old = read_members(self.store)
        new = old.model_copy(update={"version": old.version + 1, "members": dict(old.members) | changes})
        write_members(self.store, new, self.founders.operators)

    def invite(self, name: str, role: MemberRole = "contributor", **different: object) -> PrivateKey:
        """Invite somebody, and return the invitation's key."""
        key, now_s = PrivateKey.generate(), time.time()
        member = Member(
            role=role, invite=key.public, invited_at_s=now_s, join_by_s=now_s + DAY_S, valid_until_s=now_s + 90 * DAY_S
        )
        self.change_members({name: member.model_copy(update=different)})
        self.invites[name] = key
        return key

    def change(self, name: str, **different: object) -> None:
        """Change what is said of a member."""
        member = read_members(self.store).members[name]
        self.change_members({name: member.model_copy(update=different)})

    def revoke(self, name: str) -> None:
        """Revoke a member, as of now."""
        self.change(name, revoked=Revocation(at_s=time.time(), since_s=time.time(), reason="lost its key"))

    def statement(self, name: str, key: PrivateKey, *, number: int = 0, before: PrivateKey | None = None) -> bytes:
        """Return the envelope by which a key is bound to a name, by the invitation or the key before."""
        said = KeyStatement(
            federation=self.fingerprint, member=name, number=number, key=key.public, made_at_s=time.time()
        )
        return state_key(said, before=before or self.invites.get(name), own=key)

    def join(self, name: str) -> Identity:
        """Bind a new key to the name of somebody who is invited, or to a free name where the federation is open."""
        key = PrivateKey.generate()
        bind_key(self.store, self.statement(name, key))
        return Identity(name, self.fingerprint, key)

    def enroll(self, name: str, role: MemberRole = "contributor", **different: object) -> Identity:
        """Invite somebody who joins at once."""
        self.invite(name, role, **different)
        return self.join(name)
