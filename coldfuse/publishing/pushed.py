"""How a release is pushed, and what was."""

from __future__ import annotations

from dataclasses import dataclass

from coldfuse.publishing.folder import Outgoing


@dataclass(frozen=True, kw_only=True)
class Pushing:
    """How a release is pushed."""

    is_public: bool = False
    """True to make the repository public, or to push into one that is."""
    with_provenance: bool = False
    """True to send what names all contributors, too."""
    overwrite: bool = False
    """True to replace what somebody else has put there; its history keeps it."""
    allow_older: bool = False
    """True to go back behind the release that is there."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was pushed, or would be."""

    release: int
    repository: str
    branch: str
    tag: str
    """Tag that the release has there."""
    files: tuple[Outgoing, ...]
    """What was sent, or was there already."""
    removed: tuple[str, ...] = ()
    """Files of the release before that this one does not have."""
    commit: str | None = None
    """The commit; None where nothing was done."""
    notes: tuple[str, ...] = ()
    """What its caller should know."""

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(each.size_bytes for each in self.files)
