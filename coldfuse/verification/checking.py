"""From what came of fusing a release again to a member's word on it."""

from __future__ import annotations

import importlib.metadata
import platform

from coldfuse import __version__
from coldfuse.trust.check import Check
from coldfuse.trust.identity import Identity
from coldfuse.verification.findings import Recomputed

_LIBRARIES = ("numpy", "numba")
_MAX_CHARS = 1000


def check_of(found: Recomputed, who: Identity, *, now_s: float) -> Check | None:
    """Return what a member says of a release; None of one that could not be fused again."""
    if found.agrees is None:
        return None
    return Check(
        federation=who.federation, member=who.name, release=found.release, manifest=found.manifest, agrees=found.agrees,
        difference=found.why[:_MAX_CHARS], checked_at_s=now_s, software=_software(),
    )  # fmt: skip


def _software() -> dict[str, str]:
    """Return the versions of what has fused: where results differ in the last bits, they say why."""
    found = {"coldfuse": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
