"""What of a fetched folder goes to the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coldfuse.consumer.folder import OWN, read_fetched
from coldfuse.core.model_files import CARD_FILE, PROVENANCE_FILE, SIGNATURE_FILE
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.words import plural
from coldfuse.errors import NotAllowedError, UserInputError

_VERIFIED_BY = ("release.json", "written.json")
"""Files of a fetch's own folder by which `coldfuse verify` knows a release."""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One file that is sent."""

    path: str
    """Its path in the repository."""
    file: Path
    """Where it lies."""
    size_bytes: int


def outgoing(folder: Path, *, with_provenance: bool = False) -> tuple[ReleaseManifest, tuple[Outgoing, ...]]:
    """Return the release in a fetched folder, and what is sent of it: its files, its signature and its card.

    What says who has contributed stays here: it names all of them, whether they have agreed to be named or not.

    Args:
        folder: The folder, verified.
        with_provenance: Send that, too, and what `coldfuse verify` needs beside it.

    Raises:
        UserInputError: No release lies there whole, there is no card, or a file is a link out of the folder.
        NotAllowedError: Not all contributors have agreed to be named.
    """
    manifest = read_fetched(folder)
    if manifest is None:
        raise UserInputError(f"{folder}: no release lies here whole; expected a folder that coldfuse fetch has written")
    unnamed = sum(not fused.is_named for fused in manifest.contributions)
    if with_provenance and unnamed:
        raise NotAllowedError(
            f"release {manifest.release}: {plural(unnamed, 'contribution')} of those who have not agreed to be named, "
            "and the provenance names all; leave --provenance out, or have them contribute with --named"
        )
    return manifest, tuple(_files(folder, manifest, with_provenance=with_provenance))


def _files(folder: Path, manifest: ReleaseManifest, *, with_provenance: bool) -> Iterator[Outgoing]:
    for path in sorted(manifest.files):
        yield _outgoing(folder, path)
    yield _outgoing(folder, CARD_FILE, _card(folder))
    others = [SIGNATURE_FILE]
    if with_provenance:
        others += [PROVENANCE_FILE, *(f"{OWN}/{name}" for name in _VERIFIED_BY)]
        others += sorted(path.relative_to(folder).as_posix() for path in (folder / OWN / "root").glob("*.json"))
    for path in others:
        if (folder / path).is_file():
            yield _outgoing(folder, path)


def _card(folder: Path) -> Path:
    """Return the card: the user's own, or the one that a fetch has written."""
    for place in (folder / CARD_FILE, folder / OWN / CARD_FILE):
        if place.is_file():
            return place
    raise UserInputError(f"{folder}: has no {CARD_FILE} beside the release; fetch it again, or write one")


def _outgoing(folder: Path, path: str, file: Path | None = None) -> Outgoing:
    """Return a file as it is sent; a link would have something of this machine's sent under a harmless name."""
    file = file or folder / path
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UserInputError(f"{file}: is a link out of the folder, and is not sent; put the file itself there")
    return Outgoing(path=path, file=file, size_bytes=file.stat().st_size)
