"""A small federation with a root, members and signed rounds, on hand-made models."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from tiny_rounds import Model, lead, make_changes, make_contribution, make_model, receive, write_model

from coldfuse.core.serialization import encode
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.registry.members import bind_key, write_members
from coldfuse.storage import LocalStore
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import KeyStatement, Member, MemberRole, Members, state_key

YEAR_S = 365 * 86400.0


@dataclass
class SignedFederation:
    """A federation, and everybody's keys."""

    federation: Federation
    keys: FounderKeys
    members: dict[str, Member] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    version: int = 1

    @property
    def store(self) -> ObjectStore:
        return self.federation.store

    def enroll(self, *names: str, role: MemberRole = "contributor") -> None:
        """Invite people, who all join at once."""
        now_s, invites = time.time(), {name: PrivateKey.generate() for name in names}
        for name, invite in invites.items():
            self.members[name] = Member(
                role=role, invite=invite.public, invited_at_s=now_s, join_by_s=now_s + 86400,
                valid_until_s=now_s + YEAR_S,
            )  # fmt: skip
        self.write_members()
        for name, invite in invites.items():
            self.bind(name, invite)

    def write_members(self) -> None:
        """Sign the list of members as it is, as the next version."""
        self.version += 1
        members = Members(version=self.version, federation=self.keys.fingerprint, members=dict(self.members))
        write_members(self.store, members, self.keys.operators)

    def bind(self, name: str, before: PrivateKey, *, number: int = 0) -> None:
        """Bind a new key to a name."""
        own = PrivateKey.generate()
        statement = KeyStatement(
            federation=self.keys.fingerprint, member=name, number=number, key=own.public, made_at_s=time.time()
        )
        assert bind_key(self.store, state_key(statement, before=before, own=own))
        self.identities[name] = Identity(name, self.keys.fingerprint, own)

    def contribute(self, name: str, seed: int, **options: object) -> str:
        """Contribute to the round that is open, signed."""
        model = make_model()
        manifest = make_contribution(self.federation, name, make_changes(model, seed), **options)  # type: ignore[arg-type]
        signature = self.identities[name].sign(encode(manifest), "contribution")
        return receive(self.federation, manifest, at_s=time.time(), signature=signature)

    def round(self, number: int, names: tuple[str, ...] = ("ada", "ben", "cy")) -> None:
        """Lead a round of these contributors to its release."""
        lead(self.federation, number, now_s=time.time())
        for index, name in enumerate(names):
            self.contribute(name, 10 * number + index)
        lead(self.federation, number, now_s=time.time())
        assert self.federation.latest().round == number


def found_federation(
    root: Path, *, model: Model | None = None, method: str = "mean", quorum: int = 3, is_auditable: bool = False
) -> SignedFederation:
    """Create a federation with a root and no members."""
    operator, model_key = PrivateKey.generate(), PrivateKey.generate_p256()
    keys = FounderKeys(operators=[operator], aggregator=PrivateKey.generate(), model=model_key)
    federation = create_federation(
        LocalStore(root / "store"), name="tiny", base=write_model(root / "base", model or make_model()), origin="base",
        method=method, rules={"quorum": quorum, "deadline_s": 60.0}, trust=keys,
        is_auditable=is_auditable,
    )  # fmt: skip
    return SignedFederation(federation, keys)


def make_signed_federation(
    root: Path, *, rounds: int = 2, method: str = "mean then nesterov", is_auditable: bool = False
) -> SignedFederation:
    """Create a federation of three contributors, and lead some rounds."""
    made = found_federation(root, method=method, is_auditable=is_auditable)
    made.enroll("ada", "ben", "cy")
    for number in range(1, rounds + 1):
        made.round(number)
    return made
