"""Roots, members and their keys, made in memory for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coldfuse.core.serialization import encode, sha256
from coldfuse.trust.channel import SignedChannel, channel_key
from coldfuse.trust.envelope import sign
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import KeyStatement, Member, MemberRole, Members, keys_folder, state_key
from coldfuse.trust.root import RoleKeys, RoleName, Root
from coldfuse.trust.view import TrustView, members_key, root_key

NOW_S = 1_800_000_000.0
YEAR_S = 365 * 86400.0


def make_root(
    keys: Mapping[RoleName, list[PrivateKey]],
    *,
    version: int = 1,
    thresholds: Mapping[RoleName, int] | None = None,
    is_open: bool = False,
    expires_at_s: float = NOW_S + YEAR_S,
) -> Root:
    """Return a root of these keys, unsigned."""
    return Root(
        version=version,
        created_at_s=NOW_S,
        expires_at_s=expires_at_s,
        is_open=is_open,
        keys={key.public.id: key.public for each in keys.values() for key in each},
        roles={
            role: RoleKeys(keys=tuple(key.public.id for key in each), threshold=(thresholds or {}).get(role, 1))
            for role, each in keys.items()
        },
    )


@dataclass
class TinyTrust:
    """A federation's keys and signed things, as they lie in a store: `stored` by key."""

    operator: PrivateKey = field(default_factory=PrivateKey.generate)
    aggregator: PrivateKey = field(default_factory=PrivateKey.generate)
    model: PrivateKey = field(default_factory=PrivateKey.generate_p256)
    is_open: bool = False
    stored: dict[str, bytes] = field(default_factory=dict)
    invites: dict[str, PrivateKey] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    former: tuple[tuple[str, Member], ...] = ()
    version: int = 0
    channel_version: int = 0
    roots: list[PrivateKey] = field(default_factory=list)
    """The root's key of each version so far."""

    def __post_init__(self) -> None:
        keys: dict[RoleName, list[PrivateKey]] = {
            "root": [self.operator], "operator": [self.operator],
            "aggregator": [self.aggregator], "model": [self.model],
        }  # fmt: skip
        self.root = make_root(keys, is_open=self.is_open)
        self.fingerprint = sha256(encode(self.root))
        self.stored[root_key(1)] = sign(encode(self.root), "root", [self.operator])
        self.roots.append(self.operator)
        self.publish_members()

    def publish_members(self) -> None:
        """Sign the list of members as it is, as the next version."""
        self.version += 1
        members = Members(
            version=self.version, federation=self.fingerprint, members=dict(self.members), former=self.former
        )  # fmt: skip
        self.stored[members_key(self.version)] = sign(encode(members), "members", [self.operator])

    def invite(self, name: str, role: MemberRole = "contributor", **different: object) -> PrivateKey:
        """Invite somebody, and return the invitation's key."""
        key = self.invites[name] = PrivateKey.generate()
        member = Member(
            role=role, invite=key.public, invited_at_s=NOW_S, join_by_s=NOW_S + 86400, valid_until_s=NOW_S + YEAR_S
        )
        self.members[name] = member.model_copy(update=different)
        self.publish_members()
        return key

    def bind(self, name: str, key: PrivateKey, *, number: int = 0, before: PrivateKey | None = None) -> Identity:
        """Bind a key to a name, by the invitation or the key before it."""
        member = self.members.get(name)
        statement = KeyStatement(
            federation=self.fingerprint, member=name, number=number, key=key.public, made_at_s=NOW_S
        )
        folder = keys_folder(name, member.invite if member else None)
        signer = before if before is not None else self.invites.get(name)
        self.stored[f"{folder}{number}.json"] = state_key(statement, before=signer, own=key)
        return Identity(name, self.fingerprint, key)

    def enroll(self, name: str, role: MemberRole = "contributor", **different: object) -> Identity:
        """Invite somebody who joins at once."""
        self.invite(name, role, **different)
        return self.bind(name, PrivateKey.generate())

    def rotate(self, *, sign_by: list[PrivateKey] | None = None, **different: object) -> Root:
        """Publish the next root, of the keys as they are now, signed by the root's key before and now."""
        keys: dict[RoleName, list[PrivateKey]] = {
            "root": [self.operator], "operator": [self.operator],
            "aggregator": [self.aggregator], "model": [self.model],
        }  # fmt: skip
        before = self.roots[-1]
        self.root = make_root(keys, version=self.root.version + 1, is_open=self.is_open)
        self.root = self.root.model_copy(update=different)
        signers = sign_by or list({key.public.id: key for key in (before, self.operator)}.values())
        self.stored[root_key(self.root.version)] = sign(encode(self.root), "root", signers)
        self.roots.append(self.operator)
        return self.root

    def point(
        self, name: str = "latest", *, release: int = 0, manifest: bytes = b"", by: PrivateKey | None = None,
        **different: object,
    ) -> SignedChannel:  # fmt: skip
        """Let a channel point to a release, as the aggregator does; some things of it may be different."""
        self.channel_version += 1
        values: dict[str, object] = {
            "release": release, "round": release, "manifest": sha256(manifest), "model_digest": sha256(b"model"),
            "name": name, "version": self.channel_version, "expires_at_s": NOW_S + 7 * 86400.0,
            "federation": self.fingerprint, "root": self.root.version, "members": self.version,
        }  # fmt: skip
        channel = SignedChannel.model_validate(values | different)
        self.stored[channel_key(name)] = sign(encode(channel), "channel", [by or self.aggregator])
        return channel

    def view(self) -> TrustView:
        """Return what somebody sees who knows the fingerprint alone."""
        return TrustView(self.stored.get, fingerprint=self.fingerprint)
