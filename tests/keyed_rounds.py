"""Federations with a root whose rounds are led, with the keys of everybody who is in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tiny_rounds import make_changes, make_contribution, make_model, write_model
from tiny_rounds import lead as lead_round
from trusted_federations import TrustedFederation, make_founders

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.round import LeaderEvent
from coldfuse.core.serialization import encode
from coldfuse.gateway import ContributionVerdict, StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.trust.identity import Identity

MODEL = make_model()


@dataclass
class LedFederation(TrustedFederation):
    """A federation of a real, tiny model, and the private keys of all; its `federation` has the aggregator's."""

    store: LocalStore = field(init=False)
    root: Path = field(kw_only=True)
    quorum: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        self.founders = make_founders(is_open=self.is_open)
        self.store = LocalStore(self.root / "store")
        rules = {"quorum": self.quorum, "deadline_s": 60.0, "close": "quorum"}
        create_federation(
            self.store, name="tiny", base=write_model(self.root / "base", MODEL), origin="base", method="mean",
            rules=rules, trust=self.founders,
        )  # fmt: skip
        self.federation = open_federation(self.store, signer=self.founders.signer)

    def made(self, name: str, seed: int, **different: object) -> ContributionManifest:
        """Put a delta on the latest release into the store, and return its manifest, unsigned."""
        return make_contribution(self.federation, name, make_changes(MODEL, seed), **different)

    def send(self, who: Identity, seed: int, **different: object) -> ContributionVerdict:
        """Contribute as a member does, at a gateway on the store."""
        manifest = self.made(who.name, seed, **different)
        with StoreGateway(open_federation(self.store)) as gateway:
            return gateway.commit(manifest, who.sign(encode(manifest), "contribution"))

    def lead(self, number: int = 1) -> list[LeaderEvent]:
        """Advance a round until nothing is left to do."""
        return lead_round(self.federation, number)

    def contributors(self, release: int) -> list[str]:
        """Return who is fused in a release."""
        return sorted(fused.contributor for fused in self.federation.release(release).contributions)
