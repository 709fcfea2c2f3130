"""Federations that are founded on keys, with members, in real stores: a tiny model in a folder, or hand-made bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from federations import make_federation
from tiny_rounds import Model, lead, make_changes, make_contribution, make_model, write_model

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.round import Received
from coldfuse.core.serialization import encode, sha256
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.members import bind_key, read_members
from coldfuse.registry.proposals import Document, arrange, publish
from coldfuse.registry.trust import signed_reader
from coldfuse.storage import LocalStore
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.envelope import sign
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import KeyStatement, Member, MemberRole, Revocation, state_key
from coldfuse.trust.root import RoleKeys
from coldfuse.trust.view import TrustView, root_key

DAY_S = 86400.0


def make_keys(**different: object) -> FounderKeys:
    """Make the keys of a federation with one operator."""
    keys = {
        "operators": [PrivateKey.generate()], "aggregator": PrivateKey.generate(), "model": PrivateKey.generate_p256(),
    }  # fmt: skip
    return FounderKeys(**(keys | different))  # type: ignore[arg-type]


class Enrolling:
    """What its operators and members do, of a federation whose private keys are all here."""

    store: ObjectStore
    keys: FounderKeys
    invites: dict[str, PrivateKey]

    @property
    def members(self) -> Mapping[str, Member]:
        """The members as they are, by name."""
        return read_members(self.store).members

    def change_members(self, changes: Mapping[str, Member]) -> None:
        """Sign the list of members with these changes."""
        known = TrustView(signed_reader(self.store), fingerprint=self.keys.fingerprint).refresh()
        old = known.members
        new = old.model_copy(update={"version": old.version + 1, "members": dict(old.members) | changes})
        publish(self.store, arrange([Document.of("members", new)]).signed(self.keys.operators), known)

    def change(self, name: str, **different: object) -> None:
        """Change what is said of a member."""
        self.change_members({name: self.members[name].model_copy(update=different)})

    def invite(self, *names: str, role: MemberRole = "contributor", **different: object) -> None:
        """Invite people, in one list."""
        now_s = time.time()
        self.invites |= {name: PrivateKey.generate() for name in names}
        self.change_members({
            name: Member(
                role=role, invite=self.invites[name].public, invited_at_s=now_s - 3600, join_by_s=now_s + DAY_S,
                valid_until_s=now_s + 90 * DAY_S,
            ).model_copy(update=different)
            for name in names
        })  # fmt: skip

    def statement(self, name: str, key: PrivateKey, *, number: int = 0, before: PrivateKey | None = None) -> bytes:
        """Return the envelope by which a key is bound to a name, by the key before it, the invitation or itself."""
        said = KeyStatement(
            federation=self.keys.fingerprint, member=name, number=number, key=key.public, made_at_s=time.time()
        )
        return state_key(said, before=before or self.invites.get(name), own=key)

    def bind(self, name: str, key: PrivateKey, *, before: PrivateKey | None = None, number: int = 0) -> bool:
        """Bind a key to a name."""
        return bind_key(self.store, self.statement(name, key, number=number, before=before))

    def join(self, name: str) -> Identity:
        """Bind a new key to the name of somebody who is invited, or to a free name where the federation is open."""
        key = PrivateKey.generate()
        self.bind(name, key)
        return Identity(name, self.keys.fingerprint, key)

    def enroll(self, name: str, role: MemberRole = "contributor", **different: object) -> Identity:
        """Invite somebody who joins at once."""
        self.invite(name, role=role)
        identity = self.join(name)
        if different:  # only now: who has expired binds no key
            self.change(name, **different)
        return identity

    def revoke(self, name: str, *, since_s: float | None = None, reason: str = "") -> None:
        """Revoke a member, for all since some time, or now."""
        now_s = time.time()
        since_s = now_s if since_s is None else since_s
        self.change(name, revoked=Revocation(at_s=now_s, since_s=since_s, reason=reason))


@dataclass
class TrustedFederation(Enrolling):
    """A federation of hand-made bytes in any store, in which no round is open."""

    store: ObjectStore
    is_open: bool = False
    name: str | None = None
    federation: Federation = field(init=False)
    keys: FounderKeys = field(init=False)
    invites: dict[str, PrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = make_keys(is_open=self.is_open)
        self.federation = make_federation(self.store, trust=self.keys, name=self.name)


@dataclass
class RootedFederation(Enrolling):
    """A federation of a tiny model in a folder."""

    path: Path
    keys: FounderKeys = field(default_factory=make_keys)
    model: Model = field(default_factory=make_model)
    rules: Mapping[str, object] = field(default_factory=lambda: {"quorum": 1})
    invites: dict[str, PrivateKey] = field(default_factory=dict)

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
