"""By what a federation is known here: a fingerprint that was typed, or a root that was pinned before.

What is verified may be a copy anywhere, so nothing is remembered of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from coldfuse.errors import CodecError, UserInputError
from coldfuse.trust.home import FederationFolder, known_federations
from coldfuse.trust.root import fingerprint_of
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
    known = dict(_known(home))
    here = next((name for name, memory in known.items() if source in memory.seen().sources), None)
    found = _check(wanted) if wanted is not None else here or (claimed if claimed in known else None)
    memory = known.get(found) if found is not None else None
    return Known(found, memory.seen() if memory else Seen())


def _known(home: Path) -> list[tuple[str, Memory]]:
    found = []
    for path in known_federations(home):
        try:
            fingerprint = fingerprint_of((path / "root.json").read_bytes())
        except (CodecError, OSError) as error:
            raise UserInputError(
                f"{path / 'root.json'}: is no root any more ({error}); remove it, or join anew"
            ) from error
        folder = FederationFolder(home, fingerprint)
        if folder.path.exists():
            found.append((fingerprint, Memory(folder)))
    return found


def _check(text: str) -> str:
    found = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{64}", found) is None:
        raise UserInputError(
            f"--root {text[:80]!r}: expected 64 characters, 0-9 and a-f, as coldfuse init has shown them"
        )
    return found
