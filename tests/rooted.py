"""Small federations that are founded on keys, with members, for tests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tiny_rounds import Model, lead, make_changes, make_contribution, make_model, write_model

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.round import Received
from coldfuse.core.serialization import encode, sha256
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.members import bind_key, read_members, write_members
from coldfuse.storage import LocalStore
from coldfuse.trust.envelope import sign
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import KeyStatement, Member, MemberRole, Members, Revocation, state_key
from coldfuse.trust.root import RoleKeys
from coldfuse.trust.view import root_key


def make_keys(**different: object) -> FounderKeys:
    """Make the keys of a federation with one operator."""
    keys = {
        "operators": [PrivateKey.generate()], "aggregator": PrivateKey.generate(), "model": PrivateKey.generate_p256(),
    }  # fmt: skip
    return FounderKeys(**(keys | different))  # type: ignore[arg-type]


@dataclass
class RootedFederation:
    """A federation in a folder, with the keys that it was founded on."""

    path: Path
    keys: FounderKeys = field(default_factory=make_keys)
    model: Model = field(default_factory=make_model)
    rules: Mapping[str, object] = field(default_factory=lambda: {"quorum": 1})

    def __post_init__(self) -> None:
        self.base = write_model(self.path / "base", self.model)
        self.store = LocalStore(self.path / "store")
        create_federation(
            self.store, name="tiny", base=self.base, origin="base", method="mean", rules=self.rules, trust=self.keys
        )  # fmt: skip

    def opened(self, *, leads: bool = True) -> Federation:
        """Open it, as an aggregator that has just started, or as who only reads."""
        return open_federation(LocalStore(self.path / "store"), signer=self.keys.signer if leads else None)

    def published(self) -> Federation:
        """Let somebody contribute to a round, and publish release 1; return the federation after it."""
        lead(self.opened(), 1, now_s=time.time())
        self.send("ada", make_changes(self.model, 1), self.enroll("ada"))
        lead(self.opened(), 1)
        return self.opened()

    def rotate_aggregator(self, new: PrivateKey) -> None:
        """Write a root that names another aggregator, as the next version."""
        root = self.opened(leads=False).trust.refresh().root  # type: ignore[union-attr]
        keys = {keyid: key for keyid, key in root.keys.items() if keyid not in root.roles["aggregator"].keys}
        roles = root.roles | {"aggregator": RoleKeys(keys=(new.public.id,))}
        changed = root.model_copy(
            update={"version": root.version + 1, "keys": keys | {new.public.id: new.public}, "roles": roles}
        )
        self.store.put_if_absent(root_key(changed.version), sign(encode(changed), "root", self.keys.operators))

    def change(self, name: str, member: Member) -> None:
        """Write the list of members with a member changed."""
        now = read_members(self.store)
        new = Members(
            version=now.version + 1, federation=now.federation, members=now.members | {name: member}, former=now.former
        )  # fmt: skip
        write_members(self.store, new, self.keys.operators)

    def enroll(self, name: str, role: MemberRole = "contributor", **different: object) -> Identity:
        """Invite somebody who joins at once."""
        invite, key, now_s = PrivateKey.generate(), PrivateKey.generate(), time.time()
        member = Member(
            role=role, invite=invite.public, invited_at_s=now_s - 3600, join_by_s=now_s + 3600,
            valid_until_s=now_s + 86400,
        )  # fmt: skip
        self.change(name, member)
        self.bind(name, key, before=invite)
        if different:  # only now: who has expired binds no key
            self.change(name, member.model_copy(update=different))
        return Identity(name, self.keys.fingerprint, key)

    def bind(self, name: str, key: PrivateKey, *, before: PrivateKey | None, number: int = 0) -> bool:
        """Bind a key to a name."""
        statement = KeyStatement(
            federation=self.keys.fingerprint, member=name, number=number, key=key.public, made_at_s=time.time()
        )
        return bind_key(self.store, state_key(statement, before=before, own=key))

    def revoke(self, name: str, *, since_s: float, reason: str = "") -> None:
        """Revoke a member."""
        member = read_members(self.store).members[name]
        revoked = Revocation(at_s=time.time(), since_s=since_s, reason=reason)
        self.change(name, member.model_copy(update={"revoked": revoked}))

    def receive(self, manifest: ContributionManifest, identity: Identity | None, *, at_s: float | None = None) -> str:
        """Record a contribution as a gateway does that checks nothing, and return its digest."""
        data = encode(manifest)
        self.opened(leads=False).objects.put(sha256(data), data)
        signature = identity.sign(data, "contribution") if identity else None
        received = Received(
            contribution=sha256(data), contributor=manifest.contributor, signature=signature,
            received_at_s=time.time() if at_s is None else at_s,
        )  # fmt: skip
        self.opened(leads=False).journal(manifest.round).receive(received)
        return sha256(data)

    def send(
        self, name: str, changes: Mapping[str, np.ndarray], identity: Identity | None, *, at_s: float | None = None
    ) -> str:
        """Store a delta, and record it."""
        return self.receive(make_contribution(self.opened(leads=False), name, changes), identity, at_s=at_s)
