"""By what a federation is known here: a fingerprint that was typed, or a root that was pinned before.

What is verified may be a copy anywhere, so nothing is remembered of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from coldfuse.trust.home import check_fingerprint, known_federations
from coldfuse.trust.seen import Memory, Seen


@dataclass(frozen=True)
class Known:
    """What is known of a federation."""

    fingerprint: str | None = None
    """Its fingerprint; None: nothing is known, and only the store's own word is left."""
    seen: Seen = field(default_factory=Seen)
    """The newest versions that were seen before."""


def known_anchor(home: Path, *, source: str, claimed: str | None, wanted: str | None) -> Known:
    """Return by what a federation is known.

    Args:
        home: The user's own folder.
        source: Where it is, as it may be remembered.
        claimed: What it says that it is.
        wanted: The fingerprint that the user has given.

    Raises:
        UserInputError: That is none.
    """
    known = {folder.fingerprint: Memory(folder) for folder in known_federations(home)}
    here = next((name for name, memory in known.items() if source in memory.seen().sources), None)
    found = check_fingerprint(wanted) if wanted is not None else here or (claimed if claimed in known else None)
    memory = known.get(found) if found is not None else None
    return Known(found, memory.seen() if memory else Seen())
