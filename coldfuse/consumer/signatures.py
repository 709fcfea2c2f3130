"""The signatures beside a release's files: `model.sig` for tools of others, and what the release was made from.

They are brought as they are stored and believed by nobody here: whoever has them verifies them. A file of one of these
names that no fetch wrote is somebody's own, such as a signature that a user has made: it is never touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from coldfuse.consumer.folder import OWN
from coldfuse.core.model_files import PROVENANCE_FILE, SIGNATURE_FILE
from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.durable import make_folder, remove_whole, write_whole
from coldfuse.errors import CodecError, UserInputError
from coldfuse.trust.model_signature import model_signature_key
from coldfuse.trust.provenance import statement_key
from coldfuse.trust.reading import MAX_ROOT_BYTES
from coldfuse.trust.root import MAX_ROOTS
from coldfuse.trust.view import root_key

_NAMES = (SIGNATURE_FILE, PROVENANCE_FILE)

Signatures = Mapping[str, bytes | None]
"""Content of each file by its name; None where the source has none."""


class SignedSource(Protocol):
    """Where signatures come from."""

    def read_signed(self, key: str) -> bytes | None:
        """Return what is signed and lies under a key of the store; None where there is nothing."""


def bring(source: SignedSource, release: int) -> Signatures:
    """Ask for the signatures of a release.

    Raises:
        CodecError: What comes is longer than any signature.
    """
    keys = {SIGNATURE_FILE: model_signature_key(release), PROVENANCE_FILE: statement_key(release)}
    found = {name: source.read_signed(key) for name, key in keys.items()}
    for name, data in found.items():
        if data is not None and len(data) > MAX_MANIFEST_BYTES:
            raise CodecError(f"{keys[name]}: {len(data):,} bytes, at most {MAX_MANIFEST_BYTES:,} are taken")
    return found


def keep_roots(source: SignedSource, folder: Path) -> None:
    """Bring the federation's roots, so that whoever has its fingerprint can verify the folder without the source.

    They lie at `root/<n>.json`, as in the store, and are believed by nobody here.

    Args:
        source: Where they come from.
        folder: The fetch's own folder.

    Raises:
        CodecError: One is longer than any root.
    """
    for version in range(1, MAX_ROOTS + 1):
        key = root_key(version)
        data = source.read_signed(key)
        if data is None:
            return
        if len(data) > MAX_ROOT_BYTES:
            raise CodecError(f"{key}: {len(data):,} bytes, at most {MAX_ROOT_BYTES:,} are taken")
        if not _is(folder / key, data):
            make_folder((folder / key).parent)
            write_whole(folder / key, data)


def names_of(signatures: Signatures) -> tuple[str, ...]:
    """Return the names of those that there are."""
    return tuple(name for name, data in signatures.items() if data is not None)


def require_room(out: Path, signatures: Signatures) -> None:
    """Raise `UserInputError` if a file of the user's own lies where a signature belongs."""
    own = _read_note(_note(out))
    for name, data in signatures.items():
        if data is not None and name not in own and (out / name).exists() and not _is(out / name, data):
            raise UserInputError(
                f"{out / name}: was not written by a fetch, and the release brings one; move it out of the folder"
            )


def put(out: Path, signatures: Signatures) -> None:
    """Write signatures into a folder, and remove those that another release has left there."""
    note = _note(out)
    before, wanted = _read_note(note), {name for name, data in signatures.items() if data is not None}
    if not before and not wanted:
        return
    _write_note(note, before | wanted)  # first, so that whatever is killed, it is known whose they are
    for name in sorted(before - wanted):
        remove_whole(out / name)
    for name, data in signatures.items():
        if data is not None and not _is(out / name, data):
            write_whole(out / name, data)
    _write_note(note, wanted)


def take_away(out: Path) -> None:
    """Remove the signatures of a release whose files are about to be replaced."""
    for name in sorted(_read_note(_note(out))):
        remove_whole(out / name)


def read_provenance(out: Path) -> bytes | None:
    """Return what a fetched release was made from, in its envelope, unverified; None where nothing says it."""
    try:
        if not (out / PROVENANCE_FILE).is_file():
            return None
        with open(out / PROVENANCE_FILE, "rb") as file:
            return file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise UserInputError(f"{out / PROVENANCE_FILE}: cannot be read ({error.strerror}); fetch it again") from error


def _note(out: Path) -> Path:
    """Return the file that says which signatures in a folder a fetch has written."""
    return out / OWN / "signatures.json"


def _is(path: Path, data: bytes) -> bool:
    try:
        return not path.is_symlink() and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _read_note(note: Path) -> set[str]:
    try:
        names = json.loads(note.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    return {name for name in names if name in _NAMES} if isinstance(names, list) else set()


def _write_note(note: Path, names: set[str]) -> None:
    write_whole(note, json.dumps(sorted(names)).encode())
