"""What a gateway answers: the values, and how people read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from html import escape
from itertools import islice

from coldfuse.core.contribution import MAX_EXAMPLES
from coldfuse.core.federation import RoundRules, SettingsChange, format_duration
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.names import shown
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.scored_weights import Weighting
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import decode, sha256
from coldfuse.core.statistics import StatisticsRule

_NAMED = 100
"""Number of quarantined names that are shown; a status may have ten thousand."""


@dataclass(frozen=True, kw_only=True)
class ReleaseName:
    """A release, in short."""

    number: int
    """Number of the release; 0 is the pretrained base."""
    model_digest: str
    """SHA-256 over the model's tensors."""
    manifest_digest: str
    """SHA-256 of the manifest's bytes, as they are stored."""


@dataclass(frozen=True, kw_only=True)
class ContributionSummary:
    """One contribution's part in a release."""

    contributor: str
    """Id of the contributor."""
    num_examples: int
    weight: float
    """Weight of the contribution, before weights are normalised."""
    contribution: str
    """SHA-256 of the contribution's manifest."""
    display_name: str | None = None
    """Name of the contributor for people; None where the id is the name."""
    base_release: int | None = None
    """Number of the older release that the contribution was made on; None where that is the release's parent."""
    staleness_weight: float | None = None
    """What the contribution's delta was multiplied by for that; None where its base was the release's parent."""
    statistics: str | None = None
    """Kind of the statistics that it brought and the round used; None where it brought none."""
    score_weight: float | None = None
    """What its weight was multiplied by for what suites found it worth; None where nobody asked for that."""
    edit: str | None = None
    """Name of the edit that it is, as its contributor calls it; None: it is none."""

    @property
    def who(self) -> str:
        """Name and id of the contributor, for people."""
        return shown(self.contributor, self.display_name)


@dataclass(frozen=True, kw_only=True)
class ReleaseSummary:
    """A release, as the history shows it."""

    name: ReleaseName
    parent: int | None
    """Number of the release that was this one's base; None for release 0."""
    round: int
    """Number of the round that made the release; 0 for release 0."""
    method: str
    num_contributions: int
    """Number of contributions in the release; a gateway of an older version counts them and names none."""
    created_at_s: float
    """Seconds since 1970 by the publisher's clock, for people."""
    contributions: tuple[ContributionSummary, ...] = ()
    moved: float | None = None
    """Fraction of the model's elements whose bytes differ from the parent's; None where nobody counted."""
    cut_error: float | None = None
    """Share of the fused change of weights that was lost as it was cut to a module's rank; None: nothing was cut."""
    replaces: int | None = None
    """Number of the release that it took the place of, as something was retracted; None where nothing was, and from a
    gateway of an older version."""
    left_out: tuple[str, ...] = ()
    """Digests of the contributions that were left out by now, of this retraction and of those before it."""

    @property
    def num_left_out(self) -> int:
        """Number of contributions that were left out."""
        return len(self.left_out)


def summarize(data: bytes) -> ReleaseSummary:
    """Put a release's manifest, as it was written, into the words of the history: without its parts."""
    manifest = decode(ReleaseManifest, data, what="release manifest")
    contributions = tuple(
        ContributionSummary(
            contributor=fused.contributor,
            num_examples=min(fused.num_examples, MAX_EXAMPLES),
            weight=fused.weight,
            contribution=fused.contribution,
            display_name=fused.display_name,
            base_release=fused.base_release,
            staleness_weight=fused.staleness_weight,
            statistics=fused.statistics,
            score_weight=fused.score_weight,
            edit=fused.edit,
        )
        for fused in manifest.contributions
    )
    return ReleaseSummary(
        name=ReleaseName(number=manifest.release, model_digest=manifest.model_digest, manifest_digest=sha256(data)),
        parent=manifest.parent,
        round=manifest.round,
        method=manifest.method,
        num_contributions=len(contributions),
        created_at_s=manifest.created_at_s,
        contributions=contributions,
        moved=manifest.moved,
        cut_error=manifest.cut.error if manifest.cut else None,
        replaces=manifest.retraction.replaces if manifest.retraction else None,
        left_out=manifest.retraction.left_out if manifest.retraction else (),
    )


@dataclass(frozen=True, kw_only=True)
class RoundStatus:
    """How far a round has come."""

    number: int
    is_open: bool
    """True while a contribution that arrives can still be fused."""
    num_received: int
    num_admitted: int
    num_rejected: int
    contributors: tuple[str, ...]
    """Ids of those who contributed, in alphabetical order, at most 100."""
    waits_for: str
    """Sentence for people on what the round waits for."""
    display_names: Mapping[str, str] = field(default_factory=dict)
    """Names for people of those whose id is not their name, by id."""
    num_active: int | None = None
    """Number of contributors who have contributed to one of the last rounds; None from a gateway of an older version,
    and while no round is open."""
    num_missing: int | None = None
    """Number of those of whom nothing has come to this round; None likewise."""
    left_s: float | None = None
    """Seconds until the round closes or is abandoned, as things stand; None where no end is known."""

    @property
    def who(self) -> list[str]:
        """Names and ids of those who contributed, for people."""
        return [shown(contributor, self.display_names.get(contributor)) for contributor in self.contributors]


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a federation stands."""

    protocol_version: int
    layout_version: int
    federation: str
    """Random name of the federation, in hex; manifests of contributions carry it."""
    name: str
    """Id of the federation, derived from its name."""
    method: str
    """Recipe by which the round is fused."""
    rules: RoundRules
    """Rules by which the round closes."""
    max_contribution_bytes: int
    """Size beyond which a contribution is refused."""
    latest: ReleaseName
    """Release that the next contribution should start from."""
    round: RoundStatus
    """Round that is open, or the one to be opened next."""
    poll_after_s: float
    """Seconds to wait before asking again; more when many ask."""
    display_name: str | None = None
    """Name of the federation for people; None where the id is the name."""
    change: SettingsChange | None = None
    """Last change of the federation's settings; None also from a gateway on another machine, which names nobody."""
    screening: ScreeningRules | None = None
    """Rules by which contributions are compared; None from a gateway that does not say."""
    gate: GateRules | None = None
    """Rules by which what is fused is published; None from a gateway that does not say, or where there are none."""
    weighting: Weighting | None = None
    """What contributions are scored by for their weights; None from a gateway that does not say, or by nothing."""
    weighed: str | None = None
    """How the latest release's weights by score were found, or why all count as ever; None where nobody asked."""
    statistics: StatisticsRule = field(default_factory=StatisticsRule)
    """Statistics that contributions to the round bring beside their deltas; none from a gateway of an older version."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    """Why an operator has shut contributors out, by id; empty from a gateway on another machine, which names nobody."""

    def __str__(self) -> str:
        """Say it in a few lines."""
        now = self.round
        counts = f"{now.num_received} received, {now.num_admitted} admitted, {now.num_rejected} rejected"
        rules = f"quorum {self.rules.quorum}, deadline {format_duration(self.rules.deadline_s)}"
        if self.rules.close != "quorum" or self.rules.grace_s:
            rules += f", close {self.rules.close}, grace {format_duration(self.rules.grace_s)}"
        if self.rules.late != "drop":
            rules += f", late {self.rules.late} ({self.rules.lateness})"
        return "\n".join([
            f"federation {shown(self.name, self.display_name)}, method {self.method}",
            f"rules: {rules}{f'; last changed: {self.change}, by {self.change.by}' if self.change else ''}",
            f"latest release {self.latest.number}, model {self.latest.model_digest}",
            f"round {now.number}: {counts}{': ' if now.contributors else ''}{', '.join(now.who)}",
            f"waiting: {now.waits_for}",
            *([f"screening: {self.screening}"] if self.screening else []),
            *([f"gate: {self.gate}"] if self.gate else []),
            *([f"weights by score: {self.weighting}{_weighed(self)}"] if self.weighting not in (None, "none") else []),
            *([f"statistics: {self.statistics}"] if self.statistics.wanted else []),
            *(f"quarantined: {name}: {reason}" for name, reason in islice(self.quarantined.items(), _NAMED)),
        ])  # fmt: skip

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def _weighed(status: Status) -> str:
    return f"; in release {status.latest.number}: {status.weighed}" if status.weighed else ""


class Decision(Enum):
    """Whether a contribution may be fused."""

    PENDING = "pending"
    ADMITTED = "admitted"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class ContributionVerdict:
    """What became of a contribution, and why."""

    contribution: str
    """SHA-256 of the contribution's manifest."""
    decision: Decision
    reason: str
    """Sentence for the contributor."""
    is_late: bool = False
    """True for a rejection only because the round closed before screening: nothing is wrong with the contribution."""
    send_again: bool = False
    """True while the store lacks something of the contribution that it has damaged: upload it and commit it again."""


@dataclass(frozen=True, kw_only=True)
class UploadReport:
    """What an upload did."""

    sent_bytes: int
    """Bytes that the gateway took; tries that were cut off do not count."""
    num_sent: int
    """Number of parts that were missing."""
    num_skipped: int
    """Number of parts that were there already."""
