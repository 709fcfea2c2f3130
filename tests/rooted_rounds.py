"""A small federation with a root, members and signed rounds, on hand-made models."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from rooted import Enrolling, make_keys
from tiny_rounds import Model, lead, make_changes, make_contribution, make_model, receive, write_model

from coldfuse.core.serialization import encode
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import MemberRole


@dataclass
class SignedFederation(Enrolling):
    """A federation, and everybody's keys."""

    federation: Federation
    keys: FounderKeys
    invites: dict[str, PrivateKey] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = self.federation.store

    def enroll_all(self, *names: str, role: MemberRole = "contributor") -> None:
        """Invite people, who all join at once."""
        self.invite(*names, role=role)
        self.identities |= {name: self.join(name) for name in names}

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
    keys = make_keys()
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
    made.enroll_all("ada", "ben", "cy")
    for number in range(1, rounds + 1):
        made.round(number)
    return made
