"""Whether a folder is what its signature says: the same files, with the same bytes, and no other."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coldfuse.core.model_files import SIGNATURE_FILE
from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.core.words import plural, printable
from coldfuse.errors import DigestMismatchError, SignatureError
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.model_signature import IGNORED, SignedFiles, read_signature

_BUILT_IN = frozenset(path for path in IGNORED if path.startswith(".git")) | {SIGNATURE_FILE}
"""What the specification leaves out of every folder, said or not."""

_NAMED = 3
"""Number of files that an error names."""


def verify_folder(folder: Path, keys: Sequence[PublicKey]) -> SignedFiles:
    """Verify a folder by the signature that lies in it; return what that says.

    Args:
        folder: The model's folder.
        keys: Those that may have signed it.

    Raises:
        SignatureError: There is no signature, it is of none of these keys, or the folder has other files than it names.
        CodecError: What lies there is no signature.
        DigestMismatchError: A file's bytes were changed.
    """
    signed = read_signature(read_bundle(folder), keys)
    check_folder(folder, signed)
    return signed


def read_bundle(folder: Path) -> bytes:
    """Return the signature that lies in a folder, unverified, and no more than a signature can have."""
    path = folder / SIGNATURE_FILE
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # a pipe would be waited for
            raise SignatureError(f"{path}: is no plain file; expected the folder's signature")
        with open(path, "rb") as file:
            return file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise SignatureError(f"{path}: cannot be read ({error.strerror}); expected the folder's signature") from error


def check_folder(folder: Path, signed: SignedFiles) -> None:
    """Hold a folder's files against what was signed; raises as `verify_folder`."""
    found = set(_walk(folder, signed))
    _refuse([path for path in signed.digests if path not in found], folder, "was signed and is not there")
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="hash") as pool:
        digests = pool.map(lambda path: _digest_of(folder / path), signed.digests)
        changed = [path for path, digest in zip(signed.digests, digests, strict=True) if digest != signed.digests[path]]
    if changed:
        raise DigestMismatchError(_sentence(changed, folder, "is not what was signed"))


def _walk(folder: Path, signed: SignedFiles) -> Iterator[str]:
    """Yield the path of each file that was signed; one that nobody has signed ends it at once."""
    ignored = {*_BUILT_IN, *signed.ignored}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        for entry in _entries(folder / inside):
            path = f"{inside}{entry.name}"
            mode = entry.stat(follow_symlinks=False).st_mode
            if path in ignored:
                continue
            if stat.S_ISDIR(mode):
                waiting.append(f"{path}/")
            elif not stat.S_ISREG(mode):
                _refuse([path], folder, "is a link or a device, and only plain files are signed")
            elif path not in signed.digests:
                _refuse([path], folder, "is there and was not signed")
            else:
                yield path


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise SignatureError(f"{folder}: cannot be read ({error.strerror}); expected a model's folder") from error


def _digest_of(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SignatureError(f"{path}: cannot be read ({error.strerror}); it was signed") from error


def _refuse(paths: Sequence[str], folder: Path, what: str) -> None:
    if paths:
        raise SignatureError(_sentence(paths, folder, what))


def _sentence(paths: Sequence[str], folder: Path, what: str) -> str:
    """Name some files that are alike in what is wrong with them."""
    named = ", ".join(printable(path)[:200] for path in paths[:_NAMED])
    more = f" and {plural(len(paths) - _NAMED, 'other file')}" if len(paths) > _NAMED else ""
    return f"{printable(str(folder))}: {named}{more} {what}; bring the release anew into an empty folder"
