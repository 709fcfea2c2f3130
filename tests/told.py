"""A gateway that says what it is told to say, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from federation_keys import NOW_S, TinyTrust

from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.federation import RoundRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import LeaderEvent
from coldfuse.core.serialization import encode, sha256
from coldfuse.core.signature import Signature
from coldfuse.core.statistics import StatisticsRule
from coldfuse.gateway import ContributionVerdict, Gateway, ReleaseName, RoundStatus, Status
from coldfuse.registry.chain import Link
from coldfuse.trust.envelope import sign
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.provenance import statement_of

CONTRIBUTION, OTHER = sha256(b"a contribution"), sha256(b"another")


@dataclass
class Told(Gateway):
    """A gateway that says what it is told to say."""

    trust: TinyTrust
    manifests: dict[int, bytes] = field(default_factory=dict)
    verdicts: dict[str, ContributionVerdict] = field(default_factory=dict)
    entries: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    statistics: StatisticsRule = field(default_factory=StatisticsRule)

    def read_signed(self, key: str) -> bytes | None:
        self.asked.append(key)
        return self.trust.stored.get(key)

    def release_bytes(self, which: int | str = "latest") -> bytes:
        assert isinstance(which, int)
        return self.manifests[which]

    def status(self) -> Status:
        newest = max(self.manifests)
        name = ReleaseName(
            number=newest, model_digest=sha256(b"model"), manifest_digest=sha256(self.manifests[newest])
        )  # fmt: skip
        round_ = RoundStatus(
            number=1, is_open=True, num_received=0, num_admitted=0, num_rejected=0, contributors=(), waits_for=""
        )
        return Status(
            protocol_version=1, layout_version=2, federation=self.trust.fingerprint, name="tiny", method="mean",
            rules=RoundRules(), max_contribution_bytes=1, latest=name, round=round_, poll_after_s=1.0,
            statistics=self.statistics,
        )  # fmt: skip

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        return self.verdicts[contribution]

    def commit(self, manifest: ContributionManifest, signature: Signature | None = None) -> ContributionVerdict:
        return self.verdicts[CONTRIBUTION]

    def verdict_entry(self, round_number: int, contribution: str) -> bytes | None:
        return self.entries.get(contribution)

    def publish(self, number: int, *, by: PrivateKey | None = None, **different: object) -> bytes:
        """Publish a release, with its statement, as the latest."""
        values: dict[str, object] = {
            "federation": self.trust.fingerprint, "release": number, "parent": number - 1 if number else None,
            "round": number, "method": "mean", "model_digest": sha256(b"model"), "files": {}, "created_at_s": NOW_S,
        }  # fmt: skip
        manifest = ReleaseManifest.model_validate(values | different)
        data = self.manifests[number] = encode(manifest)
        parent = sha256(self.manifests[number - 1]) if number else None
        statement = statement_of(
            manifest, digest=sha256(data), parent=parent, files=sha256(b"files"), terms=None, journal_head=None
        )
        self.trust.stored[f"releases/{number:05d}.sig"] = sign(statement, "provenance", [by or self.trust.aggregator])
        self.trust.point(release=number, manifest=data)
        return data

    def decide(self, event: LeaderEvent, *, by: PrivateKey | None = None, **different: object) -> None:
        """Hand out an entry as the one that decides."""
        values: dict[str, object] = {
            "seq": 3, "entry": event, "federation": self.trust.fingerprint, "round": 1, "before": None
        }  # fmt: skip
        link = Link.model_validate(values | different)
        self.entries[CONTRIBUTION] = sign(encode(link), "journal", [by or self.trust.aggregator])


def trusted(told: Told, **options: object) -> TrustedGateway:
    return TrustedGateway(told, anchor=told.trust.fingerprint, clock=lambda: NOW_S, **options)  # type: ignore[arg-type]
