"""What a gateway says, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from coldfuse.core.federation import RoundRules
from coldfuse.transport.pb import gateway_pb2 as pb


@dataclass(frozen=True, kw_only=True)
class ReleaseName:
    """A release, in short."""

    number: int
    model_digest: str
    manifest_digest: str


@dataclass(frozen=True, kw_only=True)
class ContributionSummary:
    """One contribution's part in a release."""

    contributor: str
    num_examples: int
    weight: float
    """Before weights were normalised."""
    contribution: str
    """SHA-256 of its manifest."""


@dataclass(frozen=True, kw_only=True)
class ReleaseSummary:
    """A release, as the history shows it."""

    name: ReleaseName
    parent: int | None
    round: int
    method: str
    num_contributions: int
    """How many went into it; a gateway of an older version names none of them."""
    created_at_s: float
    contributions: tuple[ContributionSummary, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RoundStatus:
    """How far a round has come."""

    number: int
    is_open: bool
    num_received: int
    num_admitted: int
    num_rejected: int
    contributors: tuple[str, ...]
    """At most 100 names."""
    waits_for: str
    """A sentence for people."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a federation stands."""

    protocol_version: int
    layout_version: int
    federation: str
    """The federation's random name; manifests of contributions carry it."""
    name: str
    method: str
    rules: RoundRules
    max_contribution_bytes: int
    latest: ReleaseName
    round: RoundStatus
    poll_after_s: float
    """Ask again after this many seconds."""


class Decision(Enum):
    """Whether a contribution may be fused."""

    PENDING = "pending"
    ADMITTED = "admitted"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class ContributionVerdict:
    """What became of a contribution, and why."""

    contribution: str
    """SHA-256 of its manifest."""
    decision: Decision
    reason: str
    is_late: bool = False
    """Rejected only because its round closed before it was screened: nothing is wrong with it."""


_DECISIONS = {
    pb.DECISION_PENDING: Decision.PENDING,
    pb.DECISION_ADMITTED: Decision.ADMITTED,
    pb.DECISION_REJECTED: Decision.REJECTED,
}


def read_status(message: pb.GetStatusResponse) -> Status:
    """Take a status off the wire."""
    state = message.round
    return Status(
        protocol_version=message.protocol_version,
        layout_version=message.layout_version,
        federation=message.federation_digest,
        name=message.federation_name,
        method=message.method,
        rules=RoundRules(quorum=message.rules.quorum, deadline_s=message.rules.deadline_s),
        max_contribution_bytes=message.max_contribution_bytes,
        latest=_read_name(message.latest),
        round=RoundStatus(
            number=state.number,
            is_open=state.is_open,
            num_received=state.num_received,
            num_admitted=state.num_admitted,
            num_rejected=state.num_rejected,
            contributors=tuple(state.contributors),
            waits_for=state.waits_for,
        ),
        poll_after_s=message.poll_after_ms / 1000,
    )


def read_summary(message: pb.ReleaseSummary) -> ReleaseSummary:
    """Take a line of the history off the wire."""
    return ReleaseSummary(
        name=_read_name(message.release),
        parent=message.parent if message.HasField("parent") else None,
        round=message.round,
        method=message.method,
        num_contributions=message.num_contributions,
        created_at_s=message.created_at_s,
        contributions=tuple(
            ContributionSummary(
                contributor=fused.contributor,
                num_examples=fused.num_examples,
                weight=fused.weight,
                contribution=fused.contribution,
            )
            for fused in message.contributions
        ),
    )


def read_verdict(contribution: str, message: pb.Verdict) -> ContributionVerdict:
    """Take a verdict off the wire; a decision of a newer gateway counts as pending."""
    decision = _DECISIONS.get(message.decision, Decision.PENDING)
    return ContributionVerdict(
        contribution=contribution, decision=decision, reason=message.reason, is_late=message.is_late
    )


def _read_name(message: pb.Release) -> ReleaseName:
    return ReleaseName(
        number=message.number, model_digest=message.model_digest, manifest_digest=message.manifest_digest
    )
