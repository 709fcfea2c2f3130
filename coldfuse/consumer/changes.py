"""What a consumer would not expect of a source: that it goes back, or is another one."""

from __future__ import annotations

from dataclasses import dataclass

from coldfuse.core.release import ReleaseManifest


@dataclass(frozen=True)
class Change:
    """A step that is no step forward."""

    text: str
    """What is different, for people."""
    is_back: bool
    """True where the same federation has gone back, or made its history anew."""


def find_change(held: ReleaseManifest | None, offered: ReleaseManifest, *, by_number: bool) -> Change | None:
    """Compare the release in a folder with the one that a source offers; None where that is what anybody expects.

    Args:
        held: Manifest of the release in the folder, if there is one.
        offered: Manifest of the other one.
        by_number: True where it was asked for by its number: then it may be older.
    """
    if held is None:
        return None
    new, old = offered.release, held.release
    if held.federation != offered.federation:
        names = f"{offered.federation[:12]}, and the release that was here is of {held.federation[:12]}"
        return Change(f"another federation: {names}", is_back=False)
    why = "its operator has gone back, or restored an older store"
    if new < old and not by_number:
        return Change(f"the federation is at release {new}, and was at {old} before: {why}", is_back=True)
    if new == old and offered.model_digest != held.model_digest:
        digests = f"{offered.model_digest[:12]}, it was {held.model_digest[:12]}"
        return Change(f"release {new} is another model than before ({digests}): {why}", is_back=True)
    return None
