"""Bringing a release: what is missing, part by part, and the swap of the files at the end.

What is there already is not downloaded: pieces of an interrupted download, and parts that an older release in the same
folder shares with the new one. Every part's SHA-256 is checked before it counts, and the model's digest at the end.
While files are swapped the folder has no `config.json` (nor what other kinds of models have in its stead), so that
nobody loads half of two releases.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from coldfuse.consumer import card, folder, signatures
from coldfuse.consumer.channels import check_change
from coldfuse.consumer.folder import OWN, check_path, hold, is_foreign, is_whole, read_fetched, read_if_there
from coldfuse.consumer.place import Place
from coldfuse.consumer.signatures import Signatures, SignedSource, names_of
from coldfuse.consumer.taken_back import TakenBack, find_taken_back
from coldfuse.core.model_files import ENTRIES, MODULE_FILES
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import sha256
from coldfuse.durable import explained, sync_files, sync_folder
from coldfuse.errors import DigestMismatchError, UserInputError
from coldfuse.gateway import PARALLEL
from coldfuse.registry.channels import check_channel
from coldfuse.tensors.checkpoint import open_checkpoint

AHEAD = 2
"""Pieces of a part that are on their way while another is written."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much is on its way at once."""

    parallel: int = PARALLEL
    """Number of parts on their way at once: at most this many times 64 MiB are held."""
    piece_bytes: int = 1 << 20
    """Size of a part's first piece. Each piece is noted when it has come: a download that is killed loses one of each
    part on its way."""
    quick_s: float = 1.0
    """Seconds of a piece after which the next is twice as long, so that a fast link is not spent on round trips."""


class ReleaseSource(SignedSource, Protocol):
    """Where releases come from: a gateway's client, or a federation's store itself."""

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return the manifest of a release by number, or the one that a channel points to."""

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
        """Fill the buffer from `start` of a part of this release."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What a fetch brought."""

    manifest: ReleaseManifest
    """Manifest of the release."""
    downloaded_bytes: int
    """Number of bytes that were asked for."""
    reused_bytes: int
    """Number of bytes that were there already."""
    changed: str | None = None
    """What its caller may not expect: the source has gone back, or is another federation; None where it has not."""
    signed: tuple[str, ...] = ()
    """Names of the signatures that lie beside its files now; what they are worth is another question."""
    taken_back: TakenBack | None = None
    """What took it back since, where it was asked for by its number; None where nothing did, as far as is signed."""


def fetch(  # noqa: PLR0913 - what there is to say, by keyword
    source: ReleaseSource,
    out: Path,
    *,
    which: int | str = "latest",
    progress: Callable[[int, int], None] | None = None,
    verify: bool = False,
    allow_older: bool = False,
    pace: Pace = Pace(),
) -> Fetched:
    """Bring a release into the folder `out`, and bring again what was altered there.

    Args:
        source: Where it comes from.
        out: A new or empty folder, or one that a fetch wrote.
        which: The release's number, or a channel.
        progress: Called with the bytes that are there and those of all parts, after each piece of a part; by any
            thread, never by two at once. What it raises ends the fetch.
        verify: Read and hash every file that is there already. Without it, files whose size, time of change and inode
            are those of the moment when they were hashed count as unchanged: every write changes one of these, so only
            a disk that decays, or somebody who sets times back, goes unnoticed.
        allow_older: True to follow a channel back to an older release also where nobody has signed that. A release that
            is asked for by its number may be of any age.
        pace: How much is on its way at once.

    Raises:
        UserInputError: The folder is somebody else's, in use, or cannot be written; or the channel goes back.
        CodecError: The manifest names what no release holds.
        DigestMismatchError: What arrived is not what the release's manifest says; nothing of it is in place.
    """
    manifest = source.release(check_channel(which) if isinstance(which, str) else which)
    taken_back = find_taken_back(source, which) if isinstance(which, int) else None
    for path in manifest.files:
        check_path(path)
    with explained(out, "read"):
        is_others = is_foreign(out)
    if is_others:
        raise UserInputError(f"{out}: not empty, and not written by `coldfuse fetch`; give an empty or a new folder")
    with hold(out / OWN, hint="another fetch writes to it"), explained(out):
        folder.claim(out)
        held = read_fetched(out)
        changed = check_change(source, out, held, manifest, which=which, allow_older=allow_older)
        signed = signatures.bring(source, manifest.release)
        signatures.require_room(out, signed)
        if signatures.names_of(signed):
            signatures.keep_roots(source, out / OWN)
        (incoming := out / OWN / "incoming").mkdir(exist_ok=True)
        _forget_others(incoming, manifest)
        total = sum(blob.size_bytes for blob in manifest.files.values())
        if held == manifest and not any(incoming.iterdir()) and is_whole(out, manifest, verify=verify):
            signatures.put(out, signed)
            fetched = Fetched(manifest=manifest, downloaded_bytes=0, reused_bytes=total)
        else:
            with ThreadPoolExecutor(AHEAD * pace.parallel, thread_name_prefix="fetch-read") as readers:
                download = _Download(source, manifest, pace, _Count(total, progress), readers, threading.local())
                fetched = _fetch(download, out, signed)
        card.put(out, source, manifest, signed)
        return replace(fetched, changed=changed, signed=names_of(signed), taken_back=taken_back)


class _Count:
    """Counts the bytes that are there, of all parts; threads share it."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._progress, self._lock = 0, total, progress, threading.Lock()

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            if self._progress is not None:
                self._progress(self._done, self._total)


@dataclass(frozen=True)
class _Download:
    """Brings the parts of one release."""

    source: ReleaseSource
    manifest: ReleaseManifest
    pace: Pace
    count: _Count
    readers: Executor
    """Threads that wait for the source."""
    local: threading.local
    """Buffer of each thread that brings parts: new memory costs as much as writing what comes into it."""

    def bring(self, place: Place) -> int:
        """Make sure that a part lies in its target; return how many of its bytes had not to be downloaded."""
        data = self._buffer(place.part.size_bytes)
        for path, start in place.candidates:
            if read_if_there(path, start, data) and sha256(data) == place.part.digest:
                if path != place.target:
                    place.write(data, 0)
                self.count.add(len(data))
                return len(data)
        there = place.resume(data)
        self.count.add(there)
        digest = self._download(place, data, there)
        if digest != place.part.digest:  # by what an interrupted download left, or on its way: once more, whole
            self.count.add(-len(data))
            there = 0
            digest = self._download(place, data, there)
        if digest != place.part.digest:
            place.mark.unlink(missing_ok=True)
            raise DigestMismatchError(f"part {place.part.digest[:12]} arrived with SHA-256 {digest[:12]}; try again")
        return there

    def _buffer(self, size_bytes: int) -> memoryview:
        buffer: bytearray = getattr(self.local, "buffer", bytearray())
        if len(buffer) < size_bytes:
            self.local.buffer = buffer = bytearray(size_bytes)
        return memoryview(buffer)[:size_bytes]

    def _download(self, place: Place, data: memoryview, start: int) -> str:
        """Bring the part from `start` on, and return its SHA-256: a piece is written while the next one is coming."""
        digest, size = hashlib.sha256(data[:start]), self.pace.piece_bytes
        coming: deque[tuple[int, memoryview, Future[float]]] = deque()
        done = start
        try:
            while done < len(data):
                while start < len(data) and len(coming) < AHEAD:
                    piece = data[start : start + size]
                    coming.append((start, piece, self.readers.submit(self._read, place, piece, start)))
                    start += len(piece)
                done, piece, reading = coming.popleft()
                size *= 2 if reading.result() < self.pace.quick_s else 1
                place.write(piece, done)
                digest.update(piece)
                done += len(piece)
                self.count.add(len(piece))
        finally:
            wait([reading for _, _, reading in coming])  # the next part's bytes come into the same buffer
        return digest.hexdigest()

    def _read(self, place: Place, piece: memoryview, start: int) -> float:
        """Fill a piece, and return how many seconds that took."""
        began_s = time.monotonic()
        self.source.read_into(self.manifest.release, place.part.digest, piece, start)
        return time.monotonic() - began_s


def _fetch(download: _Download, out: Path, signed: Signatures) -> Fetched:
    incoming, old, manifest = out / OWN / "incoming", read_fetched(out), download.manifest
    (out / OWN / "pieces").mkdir(exist_ok=True)
    places = list(_places(manifest, old, out=out, incoming=incoming))
    downloaded, reused = 0, 0
    with ThreadPoolExecutor(download.pace.parallel, thread_name_prefix="fetch") as pool:
        for place, there in pool.map(lambda place: (place, download.bring(place)), places):
            downloaded += place.part.size_bytes - there
            reused += there
    _finish(manifest, out, old, signed)
    return Fetched(manifest=manifest, downloaded_bytes=downloaded, reused_bytes=reused)


def _forget_others(incoming: Path, manifest: ReleaseManifest) -> None:
    """Remove what an interrupted fetch of another release left: it would be taken for a part of this model."""
    for file in [file for file in incoming.rglob("*") if file.is_file()]:
        if file.relative_to(incoming).as_posix() not in manifest.files:
            file.unlink()


def _places(manifest: ReleaseManifest, old: ReleaseManifest | None, *, out: Path, incoming: Path) -> Iterator[Place]:
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
            mark = out / OWN / "pieces" / sha256(f"{path}:{start}:{part.digest}".encode())
            yield Place(part=part, target=target, start=start, mark=mark, candidates=candidates)
            start += part.size_bytes


def _finish(manifest: ReleaseManifest, out: Path, old: ReleaseManifest | None, signed: Signatures) -> None:
    incoming = out / OWN / "incoming"
    for path, blob in manifest.files.items():
        os.truncate(incoming / path, blob.size_bytes)
    with ThreadPoolExecutor(1, thread_name_prefix="fetch-sync") as pool:
        synced = pool.submit(sync_files, [incoming / path for path in manifest.files])
        seen = folder.look(incoming, sorted(manifest.files))
        digest = open_checkpoint(incoming).digest()
    synced.result()
    if digest != manifest.model_digest:
        raise DigestMismatchError(f"the model has digest {digest}, its manifest says {manifest.model_digest}")
    # From here on a kill leaves a folder that no longer says that it is whole; the next fetch finishes the swap.
    before = folder.read_written(out) | set(old.files if old else ()) | set(manifest.files)
    folder.write_written(out, before)
    folder.begin_swap(out)
    signatures.take_away(out)
    entries = [path for path in ENTRIES if path in before or path not in MODULE_FILES]  # an adapter may be the user's
    for path in (*entries, *sorted(before - set(manifest.files))):
        (out / path).unlink(missing_ok=True)
    for path in sorted(manifest.files, key=lambda path: path in ENTRIES):  # the last, as the first to go
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(incoming / path, out / path)
    signatures.put(out, signed)
    for place in {(out / path).parent for path in before}:
        sync_folder(place)  # the names are on the disk before `release.json` says that they are
    shutil.rmtree(incoming)
    shutil.rmtree(out / OWN / "pieces", ignore_errors=True)
    folder.end_swap(out, manifest, seen)
