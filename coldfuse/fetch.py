"""A release on disk: downloaded part by part, verified, and put in place only when it is whole.

What is there already is not downloaded: parts of an interrupted download, and parts that an older release in the same
folder shares with the new one. Every part's SHA-256 is checked before it counts, and the model's digest at the end.
While files are swapped the folder has no `config.json`, so that nobody loads half of two releases.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from coldfuse.codec.local_file import LocalFile
from coldfuse.codec.manifests import decode, encode, sha256
from coldfuse.codec.model_folder import PLAIN_SUFFIXES, open_model_folder
from coldfuse.core.blob import Part
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import CodecError, DigestMismatchError, UserInputError
from coldfuse.registry.federation import SETTINGS_KEY, Federation

_OWN = ".coldfuse"
_PARALLEL_PARTS = 4
"""Parts on their way at once: at most this many times 64 MiB are held."""


class ReleaseSource(Protocol):
    """Where releases come from: a gateway's client, or a federation's store itself."""

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return the manifest of a release by number, or the one that a channel points to."""

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
        """Fill the buffer from `start` of a part of this release."""


@dataclass(frozen=True)
class StoreSource:
    """Reads releases straight from the store."""

    federation: Federation

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return the manifest of a release by number, or the one that a channel points to."""
        return self.federation.release(which) if isinstance(which, int) else self.federation.release_of(which)

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:  # noqa: ARG002
        """Fill the buffer from `start` of a part."""
        self.federation.objects.read_into(digest, buffer, start)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What a fetch brought."""

    manifest: ReleaseManifest
    downloaded_bytes: int
    reused_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One part of one file, and where its bytes may lie already."""

    part: Part
    target: Path
    start: int
    candidates: tuple[tuple[Path, int], ...]


def fetch(
    source: ReleaseSource,
    out: Path,
    *,
    which: int | str = "latest",
    progress: Callable[[int, int], None] | None = None,
) -> Fetched:
    """Bring a release, by number or channel, into the folder `out`; `progress` is told (bytes done, bytes in all)."""
    manifest = source.release(which)
    for path in manifest.files:
        _check_path(path)
    if _is_foreign(out):
        raise UserInputError(f"{out}: not empty, and not written by `coldfuse fetch`; give an empty or a new folder")
    with hold(out / _OWN, hint="another fetch writes to it"):
        return _fetch(source, out, manifest, progress or (lambda _done, _total: None))


def _fetch(
    source: ReleaseSource, out: Path, manifest: ReleaseManifest, progress: Callable[[int, int], None]
) -> Fetched:
    incoming = out / _OWN / "incoming"
    incoming.mkdir(exist_ok=True)
    old = read_fetched(out)
    _forget_others(incoming, manifest)
    if old == manifest and not any(incoming.iterdir()) and _has_sizes(out, manifest):
        total = sum(blob.size_bytes for blob in manifest.files.values())
        return Fetched(manifest=manifest, downloaded_bytes=0, reused_bytes=total)
    places = list(_places(manifest, old, out=out, incoming=incoming))
    downloaded, reused, total = 0, 0, sum(place.part.size_bytes for place in places)
    with ThreadPoolExecutor(_PARALLEL_PARTS, thread_name_prefix="fetch") as pool:
        for place, was_there in pool.map(lambda p: (p, _bring(source, manifest, p)), places):
            downloaded += 0 if was_there else place.part.size_bytes
            reused += place.part.size_bytes if was_there else 0
            progress(downloaded + reused, total)
    _finish(manifest, out, incoming)
    return Fetched(manifest=manifest, downloaded_bytes=downloaded, reused_bytes=reused)


@contextmanager
def hold(folder: Path, *, hint: str) -> Iterator[None]:
    """Keep other processes out of a folder; the lock goes with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "w")  # noqa: SIM115  # closed below
    except OSError as error:
        raise UserInputError(f"{folder}: cannot be written to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserInputError(f"{folder}: in use: {hint}") from error
        yield


def read_fetched(out: Path) -> ReleaseManifest | None:
    """Return the manifest of the release that lies whole in a folder, if there is one."""
    try:
        data = (out / _OWN / "release.json").read_bytes()
    except FileNotFoundError:
        return None
    return decode(ReleaseManifest, data, what=str(out / _OWN / "release.json"))


def _is_foreign(out: Path) -> bool:
    """Tell whether a folder holds what no fetch wrote; a store has a `.coldfuse` of its own."""
    if not out.exists():
        return False
    return not out.is_dir() or (out / SETTINGS_KEY).exists() or (not (out / _OWN).is_dir() and any(out.iterdir()))


def _forget_others(incoming: Path, manifest: ReleaseManifest) -> None:
    """Remove what an interrupted fetch of another release left: it would be taken for a part of this model."""
    for file in [file for file in incoming.rglob("*") if file.is_file()]:
        if file.relative_to(incoming).as_posix() not in manifest.files:
            file.unlink()


def _has_sizes(out: Path, manifest: ReleaseManifest) -> bool:
    files = ((out / path, blob.size_bytes) for path, blob in manifest.files.items())
    return all(file.is_file() and file.stat().st_size == size for file, size in files)


def _check_path(path: str) -> None:
    pure = PurePosixPath(path)
    is_inside = not pure.is_absolute() and pure.parts and ".." not in pure.parts and pure.parts[0] != _OWN
    if not is_inside or pure.as_posix() != path or "\\" in path or not path.isprintable():
        raise CodecError(f"release manifest: {path[:200]!r} is not a path inside a model folder")
    if pure.suffix not in (".safetensors", *PLAIN_SUFFIXES):
        raise CodecError(
            f"release manifest: {path[:200]!r} is neither tensors nor configuration, and nothing else is taken"
        )


def _places(manifest: ReleaseManifest, old: ReleaseManifest | None, *, out: Path, incoming: Path) -> Iterator[_Place]:
    known: dict[str, tuple[Path, int]] = {}
    for path, blob in old.files.items() if old else ():
        start = 0
        for part in blob.parts:
            known[part.digest] = (out / path, start)
            start += part.size_bytes
    for path, blob in manifest.files.items():
        target, start = incoming / path, 0
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        for part in blob.parts:
            # Without an old manifest, a file in place may be of a swap that was interrupted.
            elsewhere = known.get(part.digest) or (None if old else (out / path, start))
            candidates = ((target, start), *([elsewhere] if elsewhere else []))
            yield _Place(part=part, target=target, start=start, candidates=candidates)
            start += part.size_bytes


def _bring(source: ReleaseSource, manifest: ReleaseManifest, place: _Place) -> bool:
    """Make sure that a part lies in its target; True if it had not to be downloaded."""
    data = bytearray(place.part.size_bytes)
    for path, start in place.candidates:
        if _read_if_there(path, start, data) and sha256(data) == place.part.digest:
            if path != place.target:
                _write(place, data)
            return True
    source.read_into(manifest.release, place.part.digest, memoryview(data), 0)
    if sha256(data) != place.part.digest:
        raise DigestMismatchError(f"part {place.part.digest[:12]} arrived with SHA-256 {sha256(data)[:12]}; try again")
    _write(place, data)
    return False


def _read_if_there(path: Path, start: int, data: bytearray) -> bool:
    if not path.is_file() or path.stat().st_size < start + len(data):
        return False
    with LocalFile(path) as file:
        file.read_into(memoryview(data), start)
    return True


def _write(place: _Place, data: bytearray) -> None:
    try:
        with open(place.target, "r+b") as file:
            file.seek(place.start)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserInputError(f"{place.target}: cannot be written: {error.strerror}; free some space") from error


def _finish(manifest: ReleaseManifest, out: Path, incoming: Path) -> None:
    for path, blob in manifest.files.items():
        os.truncate(incoming / path, blob.size_bytes)
    digest = open_model_folder(incoming).digest()
    if digest != manifest.model_digest:
        raise DigestMismatchError(f"the model has digest {digest}, its manifest says {manifest.model_digest}")
    written = out / _OWN / "written.json"  # every file that a fetch may have left here, whenever it was killed
    before = set(_read_names(written)) | set(manifest.files)
    _replace(written, json.dumps(sorted(before)).encode())
    (out / _OWN / "release.json").unlink(missing_ok=True)
    for path in ("config.json", *sorted(before - set(manifest.files))):
        (out / path).unlink(missing_ok=True)
    for path in sorted(manifest.files, key=lambda path: path == "config.json"):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(incoming / path, out / path)
    shutil.rmtree(incoming)
    _replace(written, json.dumps(sorted(manifest.files)).encode())
    _replace(out / _OWN / "release.json", encode(manifest))


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _read_names(path: Path) -> list[str]:
    if not path.is_file():
        return []
    names = [str(name) for name in json.loads(path.read_bytes())]
    for name in names:
        _check_path(name)
    return names
