"""What a verification has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coldfuse.core.words import printable
from coldfuse.verification.causes import Cause

MAX_FINDINGS = 200
"""Findings that are kept: whoever has damaged a store can make a million."""

_MAX_CHARS = 600


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as it should be."""

    cause: Cause
    """Why it is not believed."""
    where: str
    """What it is about: a key of the store, or a release."""
    why: str
    """What was expected and what was found, for people."""

    def __str__(self) -> str:
        return f"{self.cause.word}: {self.where}: {self.why}"


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """What came of fusing a release again."""

    release: int
    """Number of the release."""
    manifest: str
    """SHA-256 of its manifest's bytes."""
    agrees: bool | None
    """Whether the same came out; None: it cannot be fused again."""
    why: str = ""
    """What differs first, or why it cannot be fused again."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a verification has looked at, and what it has found."""

    fingerprint: str | None = None
    """Fingerprint of the federation's root; None: it has none."""
    release: int | None = None
    """Number of the release whose lineage was looked at."""
    looked_at: Mapping[str, int] = field(default_factory=dict)
    """How much was looked at, by what it is."""
    findings: tuple[Finding, ...] = ()
    num_more: int = 0
    """Findings beyond those that are kept."""
    notes: tuple[str, ...] = ()
    """What is worth saying and nobody's fault."""
    recomputed: tuple[Recomputed, ...] = ()

    def status(self, *, strict: bool = False) -> int:
        """Return the exit status: that of the worst finding; what is unsigned counts where it is asked for."""
        counted = [f.cause.status for f in self.findings if strict or f.cause is not Cause.UNSIGNED]
        return max(counted, default=0)

    def as_json(self, *, strict: bool = False) -> Mapping[str, object]:
        """Return it as JSON has it."""
        return {
            "status": self.status(strict=strict),
            "fine": self.status(strict=strict) == 0,
            "root": self.fingerprint,
            "release": self.release,
            "looked_at": dict(self.looked_at),
            "findings": [
                {"cause": f.cause.word, "status": f.cause.status, "where": f.where, "why": f.why} for f in self.findings
            ],
            "more_findings": self.num_more,
            "notes": list(self.notes),
            "recomputed": [
                {"release": one.release, "manifest": one.manifest, "agrees": one.agrees, "why": one.why}
                for one in self.recomputed
            ],
        }


@dataclass
class Findings:
    """Collects what is found; the worst are kept where there is too much."""

    kept: list[Finding] = field(default_factory=list)
    num_more: int = 0

    def add(self, cause: Cause, where: str, why: str) -> None:
        """Note a finding; one that was noted before is not noted again."""
        new = Finding(cause=cause, where=printable(where[:_MAX_CHARS]), why=printable(why[:_MAX_CHARS], instead=" "))
        if new in self.kept:
            return
        self.kept.append(new)
        if len(self.kept) > MAX_FINDINGS:
            self.kept.remove(min(self.kept, key=lambda finding: finding.cause.status))
            self.num_more += 1

    def sorted(self) -> tuple[Finding, ...]:
        """Return what is kept, the worst first."""
        return tuple(sorted(self.kept, key=lambda finding: (-finding.cause.status, finding.where, finding.why)))
