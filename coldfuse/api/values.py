"""What the API returns, beside the values of `gateway`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from coldfuse.api.tables import html_table
from coldfuse.consumer import Fetched
from coldfuse.consumer.taken_back import TakenBack
from coldfuse.core.federation import SettingsChange
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.words import printable
from coldfuse.gateway import ContributionSummary, ContributionVerdict, Decision, ReleaseSummary

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """A contribution that the federation has taken: it is durable, and gets exactly one verdict."""

    round: int
    """Number of the round that it went to."""
    base_release: int
    """Number of the release that the model was made from."""
    verdict: ContributionVerdict
    """Verdict when it was last asked for; pending at first."""
    delta_bytes: int
    """Size of the delta's file."""
    sent_bytes: int
    """Bytes of it that were sent; parts that were there already are not sent again."""
    left_out: tuple[str, ...]
    """Tensors of the model that the base does not have, such as a task's head: they stayed here."""
    unchanged: tuple[str, ...]
    """Tensors of the base that the model does not have: they count as unchanged."""

    @property
    def contribution(self) -> str:
        """Name of the contribution: the SHA-256 of its manifest."""
        return self.verdict.contribution

    @property
    def is_admitted(self) -> bool:
        """True once the aggregator has said that it is fused."""
        return self.verdict.decision is Decision.ADMITTED

    def with_verdict(self, verdict: ContributionVerdict) -> Self:
        """Return the same with a newer verdict."""
        return replace(self, verdict=verdict)

    def __repr__(self) -> str:
        """Say in a few lines what became of it, and what did not travel."""
        lines = [
            f"contribution {self.contribution[:12]} to round {self.round}, {self.verdict.decision.value}: "
            f"{self.verdict.reason}",
            f"delta {self.delta_bytes / 2**20:.1f} MiB on release {self.base_release}",
        ]
        for what, names in (("stayed here", self.left_out), ("unchanged", self.unchanged)):
            if names:
                lines.append(f"{what}: {_some(names)}")
        return "\n".join(lines)


class Releases(tuple[ReleaseSummary, ...]):
    """Releases, newest first. Printed they are a list, and a table in a notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        """List the releases, a line each."""
        return "\n".join(map(describe_release, self))

    def _repr_html_(self) -> str:
        rows = (
            (summary.name.number, _made(summary), summary.name.model_digest[:16], summary.method, _who(summary))
            for summary in self
        )
        return html_table(("release", "made", "model", "method", "from"), rows)


@dataclass(frozen=True, kw_only=True)
class FetchedRelease:
    """A release in a folder, verified."""

    path: Path
    """Folder that `from_pretrained` loads."""
    manifest: ReleaseManifest
    """Manifest of the release: its files, contributions, and method."""
    downloaded_bytes: int
    """Bytes that were asked for."""
    reused_bytes: int
    """Bytes that were there already."""
    changed: str | None = None
    """What may be a surprise: the federation has gone back, or is another one; None where it has not."""
    taken_back: TakenBack | None = None
    """What took it back since, where it was asked for by its number and the federation has signed that; printed it is
    a sentence."""

    @classmethod
    def of(cls, path: Path, fetched: Fetched) -> Self:
        """Return what a fetch has brought into a folder."""
        return cls(
            path=path, manifest=fetched.manifest, downloaded_bytes=fetched.downloaded_bytes,
            reused_bytes=fetched.reused_bytes, changed=fetched.changed, taken_back=fetched.taken_back,
        )  # fmt: skip

    @property
    def release(self) -> int:
        """Number of the release."""
        return self.manifest.release

    @property
    def digest(self) -> str:
        """Digest of the model's tensors."""
        return self.manifest.model_digest

    def __repr__(self) -> str:
        """Say what lies where."""
        down, kept = self.downloaded_bytes / 2**20, self.reused_bytes / 2**20
        return (
            f"release {self.release} in {self.path}: {down:.1f} MiB downloaded, {kept:.1f} MiB were there\n"
            f"digest {self.digest}"
        ) + "".join(f"\n{said}" for said in (self.changed, self.taken_back) if said)


def describe_release(summary: ReleaseSummary) -> str:
    """Say in a line what a release is and what went into it."""
    name = summary.name
    moved = "" if summary.moved is None else f", {summary.moved:.2%} of the elements moved"
    cut = "" if summary.cut_error is None else f", {summary.cut_error:.2%} lost by the cut to the module's rank"
    made = f"{_made(summary)}  {name.model_digest[:16]}  {summary.method}"
    return f"{name.number:>5}  {made}: {_who(summary)}{moved}{cut}"


def describe_change(change: SettingsChange) -> str:
    """Say in a line what was changed of a federation's settings, when, and by whom."""
    return f"{'':>5}  {when(change.changed_at_s)}  {change}, by {printable(change.by)}"


def _made(summary: ReleaseSummary) -> str:
    return when(summary.created_at_s)


def when(moment_s: float) -> str:
    """Return a moment as people read it."""
    try:
        return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # what a clock or a stranger said: a NaN, or the year 300000
        return f"{'at no time':<19}"


def _who(summary: ReleaseSummary) -> str:
    names = ", ".join(f"{fused.who}{_late(fused)}{_by_score(fused)}" for fused in summary.contributions)
    return names or (f"{summary.num_contributions} contributions" if summary.num_contributions else "the base")


def _late(fused: ContributionSummary) -> str:
    if fused.base_release is None or fused.staleness_weight is None:
        return ""
    return f" (made on {fused.base_release}, ×{fused.staleness_weight:g})"


def _by_score(fused: ContributionSummary) -> str:
    return "" if fused.score_weight is None else f" (weight ×{fused.score_weight:.3g} by score)"


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
