"""Bringing the files of a release, or of a candidate, from a gateway that need not be trusted."""

from __future__ import annotations

import hashlib
from pathlib import Path

from coldfuse.core.blob import Part
from coldfuse.core.release import ReleaseManifest
from coldfuse.durable import explained
from coldfuse.errors import CodecError, DigestMismatchError
from coldfuse.gateway import Gateway
from coldfuse.tensors.model_folder import is_inside

_PIECE_BYTES = 8 << 20


def bring(gateway: Gateway, manifest: ReleaseManifest, folder: Path) -> None:
    """Write a release's files into a folder, with bounded memory.

    Args:
        gateway: Whom to ask for parts; nobody need trust it.
        manifest: The release or candidate, verified.
        folder: An empty folder.

    Raises:
        DigestMismatchError: A part is not what the manifest names.
        CodecError: A file would lie outside of the folder.
        UserInputError: The disk is full, or the folder is not this user's.
    """
    for name, blob in manifest.files.items():
        if not is_inside(name):
            raise CodecError(f"release {manifest.release} has a file {name[:200]!r}, which is outside of its folder")
        path = folder / name
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for part in blob.parts:
                    file.write(_part(gateway, manifest.release, part))


def _part(gateway: Gateway, release: int, part: Part) -> memoryview:
    """Return a part, verified: nothing of it is written before its digest is right."""
    data = memoryview(bytearray(part.size_bytes))
    for start in range(0, len(data), _PIECE_BYTES):
        gateway.read_into(release, part.digest, data[start : start + _PIECE_BYTES], start)
    found = hashlib.sha256(data).hexdigest()
    if found != part.digest:
        raise DigestMismatchError(f"part {part.digest[:12]} arrived with SHA-256 {found[:12]}; try again")
    return data
