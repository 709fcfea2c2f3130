"""The folder that a fetch writes: whose it is, what lies in it, and whether that is still what was written.

`.coldfuse/` beside the model's files holds

    lock            held while a fetch runs
    written.json    names of the files that a fetch may have left; its presence makes the folder a fetch's own
    release.json    manifest of the release that lies here whole
    signatures.json names of the signatures beside the model's files that a fetch has written
    card.json       digests of the model card that a fetch has written: one of another digest is the user's own
    README.md       the model card, where the signature over the folder's files would not leave it out
    seen.json       size, time of change and inode of each file, as they were when their digests were checked
    root/           the federation's roots, where its releases are signed: `coldfuse verify` follows them
    incoming/       files on their way
    pieces/         how far parts on their way have come
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from coldfuse.core.blob import Blob
from coldfuse.core.left_out import LeftOut
from coldfuse.core.model_files import may_be_released
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import sha256
from coldfuse.durable import UNFINISHED, explained, sync_folder, write_whole
from coldfuse.errors import CodecError, UserInputError
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.tensors.custom_code import find_code
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.folders import LocalFolder

OWN = ".coldfuse"
_WRITTEN, _RELEASE, _SEEN = "written.json", "release.json", "seen.json"
_FIRST = ("lock", f"{_WRITTEN}{UNFINISHED}")
"""All that lies in `.coldfuse/` before it is marked as a fetch's."""

Seen = dict[str, list[int]]
"""Size in bytes, time of change in nanoseconds and inode of each file."""


@contextmanager
def hold(folder: Path, *, hint: str) -> Iterator[None]:
    """Keep other processes out of a folder; the lock goes with the process, however that ends.

    Args:
        folder: The folder, which is created if there is none.
        hint: Who may hold it, and what to do; the end of the error's sentence.

    Raises:
        UserInputError: Another process holds it, or it cannot be written.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "w")  # noqa: SIM115  # closed below
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserInputError(f"{folder}: in use: {hint}") from error
        yield


def check_path(path: str) -> None:
    """Raise `CodecError` for a path that leaves the folder, or that names what no release holds."""
    pure = PurePosixPath(path)
    is_inside = not pure.is_absolute() and pure.parts and ".." not in pure.parts and pure.parts[0] != OWN
    if not is_inside or pure.as_posix() != path or "\\" in path or not path.isprintable():
        raise CodecError(f"release manifest: {path[:200]!r} is not a path inside a model folder")
    if not may_be_released(path):
        raise CodecError(
            f"release manifest: {path[:200]!r} is neither tensors nor configuration, and nothing else is taken"
        )


def is_foreign(out: Path) -> bool:
    """Tell whether a folder holds what no fetch wrote; stores and nodes have a `.coldfuse` of their own."""
    if not out.exists():
        return False
    if not out.is_dir() or (out / SETTINGS_KEY).exists():
        return True
    if (out / OWN / _WRITTEN).is_file():
        return False
    own = out / OWN
    others = [path for path in out.iterdir() if path != own]
    return bool(others) or (own.exists() and any(path.name not in _FIRST for path in own.iterdir()))


def claim(out: Path) -> None:
    """Mark the folder as a fetch's own, before anything else is written."""
    if not (out / OWN / _WRITTEN).is_file():
        write_whole(out / OWN / _WRITTEN, b"[]")


def read_fetched(out: Path) -> ReleaseManifest | None:
    """Return the manifest of the release that was put whole into a folder, if there is one that can be read."""
    try:
        return unseal(ReleaseManifest, (out / OWN / _RELEASE).read_bytes(), what=_RELEASE)
    except (OSError, CodecError):
        return None


def missing_code(out: Path, manifest: ReleaseManifest) -> tuple[LeftOut, ...]:
    """Return the code that a release's configuration names and that is not in the folder: no release carries code."""
    code = find_code(LocalFolder(out), manifest.files)
    return code.left_out(f"release {manifest.release}", how="put it beside the model to load it", is_copied=True)


def read_written(out: Path) -> set[str]:
    """Return the names of all files that a fetch may have left here, whenever it was killed."""
    names = _read_json(out / OWN / _WRITTEN)
    try:
        for name in names if isinstance(names, list) else []:
            check_path(name)
    except (CodecError, TypeError):
        return set()
    return set(names) if isinstance(names, list) else set()


def write_written(out: Path, names: set[str]) -> None:
    """Note the names of all files that may be here from now on: those that the next fetch may remove."""
    write_whole(out / OWN / _WRITTEN, json.dumps(sorted(names)).encode())


def begin_swap(out: Path) -> None:
    """Say that no release lies here whole."""
    (out / OWN / _RELEASE).unlink(missing_ok=True)
    sync_folder(out / OWN)  # else a power cut may bring it back when files have been swapped


def end_swap(out: Path, manifest: ReleaseManifest, seen: Seen) -> None:
    """Say that a release lies here whole, and how its files looked when they were checked."""
    write_written(out, set(manifest.files))
    write_seen(out, seen)
    write_whole(out / OWN / _RELEASE, seal(manifest))


def look(folder: Path, paths: Sequence[str]) -> Seen:
    """Return size, time of change and inode of files; those that are not there are left out."""
    seen: Seen = {}
    for path in paths:
        if (folder / path).is_file():
            stat = (folder / path).stat()
            seen[path] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    return seen


def write_seen(out: Path, seen: Seen) -> None:
    """Note how files looked when their digests were checked."""
    write_whole(out / OWN / _SEEN, json.dumps(seen, sort_keys=True).encode())


def is_whole(out: Path, manifest: ReleaseManifest, *, verify: bool) -> bool:
    """Tell whether a release's files are what was written: by a look at them, or by their digests if that differs."""
    seen = look(out, sorted(manifest.files))
    if not verify and seen.keys() == manifest.files.keys() and seen == _read_json(out / OWN / _SEEN):
        return True
    if not all(is_file_of(blob, out / path) for path, blob in manifest.files.items()):
        return False
    write_seen(out, seen)  # a copied folder: looked at before it was read, so a change since then shows
    return True


def read_if_there(path: Path, start: int, data: bytearray | memoryview) -> bool:
    """Fill `data` from `start` of a file; False if the file is not that long, or the disk does not give it."""
    try:
        if not path.is_file() or path.stat().st_size < start + len(data):
            return False
        with LocalFile(path).open() as file:
            file.read_into(memoryview(data), start)
    except (OSError, UserInputError):  # a disk that decays is no reason to end: it is fetched again
        return False
    return True


def is_file_of(blob: Blob, path: Path) -> bool:
    """Tell whether a file has exactly the parts that it should have, by their digests."""
    if not path.is_file() or path.stat().st_size != blob.size_bytes:
        return False
    start = 0
    for part in blob.parts:
        data = bytearray(part.size_bytes)
        if not read_if_there(path, start, data) or sha256(data) != part.digest:
            return False
        start += part.size_bytes
    return True


def _read_json(path: Path) -> list[str] | Mapping[str, list[int]] | None:
    """Read a file of ours; None if it is torn or not there."""
    try:
        value: list[str] | Mapping[str, list[int]] = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value
