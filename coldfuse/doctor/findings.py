"""What an examination has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is damaged or missing."""

    key: str
    """Key of the object."""
    why: str
    """What is wrong with it."""
    needed_by: tuple[str, ...] = ()
    """What depends on it, for people, a few at most."""
    repaired: str | None = None
    """What brought it back, for people; None while it is damaged."""
    advice: str = ""
    """What can be done where nothing brought it back."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """Objects that nothing names."""

    num_objects: int = 0
    num_bytes: int = 0
    examples: tuple[str, ...] = ()
    """Some of their keys."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an examination has found, and what of it was repaired."""

    num_objects: int
    """Number of objects that were read."""
    num_bytes: int
    """Number of their bytes, as far as sizes are known."""
    findings: tuple[Finding, ...] = ()
    garbage: Garbage = field(default_factory=Garbage)

    @property
    def is_sound(self) -> bool:
        """True if nothing is damaged, or all of it was brought back."""
        return all(finding.repaired is not None for finding in self.findings)

    def as_json(self) -> Mapping[str, object]:
        """Return it as JSON has it."""
        return {
            "sound": self.is_sound,
            "num_objects": self.num_objects,
            "num_bytes": self.num_bytes,
            "damaged": [
                {
                    "key": finding.key,
                    "why": finding.why,
                    "needed_by": list(finding.needed_by),
                    "repaired": finding.repaired,
                    "advice": finding.advice or None,
                }
                for finding in self.findings
            ],
            "garbage": {
                "num_objects": self.garbage.num_objects,
                "num_bytes": self.garbage.num_bytes,
                "examples": list(self.garbage.examples),
            },
        }
