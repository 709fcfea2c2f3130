"""What releases and contributions are made of: that it is there, and, where it is asked for, every byte of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.doctor.examine import why_checks_damaged
from coldfuse.errors import StorageError
from coldfuse.registry.inventory import Need
from coldfuse.storage.base import list_keys
from coldfuse.tensors.checks import checks_key
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.tombstones import Graves

_PARALLEL = 8
_CHUNK_BYTES = 4 << 20


@dataclass
class Wanted:
    """The parts that have to be there, by their digests, and what each is of."""

    parts: dict[str, tuple[Part, str, bool]] = field(default_factory=dict)
    """A part, what it is of, and whether anything is wrong where it is missing."""
    checks: dict[str, Need] = field(default_factory=dict)
    """What files are verified by as they are read."""

    def of_release(self, release: ReleaseManifest, digest: str, *, has_files: bool = True) -> None:
        """Want all of a release, and what it keeps for the next round; without files, its manifest alone."""
        where = f"release {release.release}"
        if release.release:  # of release 0 older versions wrote no second copy
            self._want(Part(digest=digest, size_bytes=0), f"{where}, its manifest", is_needed=True)
        outer = release.outer
        for files, checks, what in (
            (release.files, release.checks, where),
            (outer.files if outer else {}, outer.checks if outer else {}, f"{where}, its outer state"),
        ):
            for path, blob in files.items():
                self._of_file(blob, checks.get(path), f"{what}, {path}", is_needed=has_files)

    def of_contribution(self, manifest: ContributionManifest, *, where: str, is_needed: bool) -> None:
        """Want the files of a contribution; those of one that went into no release may be gone."""
        for blob in manifest.files:
            self._of_file(blob, None, where, is_needed=is_needed)

    def of_admission(self, admission: Admission, manifest: ContributionManifest, *, where: str) -> None:
        """Want what a contribution's files are verified by as they are read."""
        self._of_file(manifest.delta, admission.checks, where, is_needed=False)
        if manifest.statistics is not None and admission.statistics is not None:
            self._of_file(manifest.statistics.file, admission.statistics.checks, where, is_needed=False)

    def _of_file(self, blob: Blob, root: str | None, where: str, *, is_needed: bool) -> None:
        for part in blob.parts:
            self._want(part, where, is_needed=is_needed)
        if root is not None:
            self.checks.setdefault(root, Need(key=checks_key(root), digest=root, by=where, checked=blob))

    def _want(self, part: Part, where: str, *, is_needed: bool) -> None:
        known = self.parts.get(part.digest)
        if known is None or (is_needed and not known[2]):
            self.parts[part.digest] = part, where, is_needed


def look_at_objects(look: Inspection, wanted: Wanted, graves: Graves, *, reads_all: bool) -> None:
    """Look at the objects of a store.

    Args:
        look: The store, and where findings are noted.
        wanted: What has to be there.
        graves: Knows what was erased on purpose.
        reads_all: True to read every object whole, also those that nothing names.
    """
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="verify") as pool:
        todo = iter(wanted.parts.values())
        while batch := list(islice(todo, 8 * _PARALLEL)):
            list(pool.map(lambda one: _look_at_part(look, graves, *one), batch))
        if not reads_all:
            return
        keys = list_keys(look.store, "objects/")
        while some := list(islice(keys, 8 * _PARALLEL)):
            list(pool.map(lambda key: _read_object(look, key), some))
    for need in wanted.checks.values():
        _look_at_checks(look, need)


def _look_at_part(look: Inspection, graves: Graves, part: Part, where: str, is_needed: bool) -> None:
    key = f"objects/{part.digest}"
    info = look.store.head(key)
    look.looked_at["parts"] += 1
    if info is None:
        if is_needed and not graves.covers(part.digest, where):
            look.add(Cause.GAP, key, f"is missing: part of {where}")
    elif part.size_bytes and info.size_bytes != part.size_bytes:
        look.add(Cause.DIGEST, key, f"has {info.size_bytes:,} bytes, expected {part.size_bytes:,}: part of {where}")


def _read_object(look: Inspection, key: str) -> None:
    look.keys.add(key)
    look.looked_at["objects read whole"] += 1
    try:
        digest = hashlib.sha256()
        for data in _chunks(look, key):
            digest.update(data)
    except StorageError as error:
        look.error(key, error)
        return
    if digest.hexdigest() != key.removeprefix("objects/"):
        look.add(Cause.DIGEST, key, f"has the SHA-256 {digest.hexdigest()[:16]}, which is not its name")


def _chunks(look: Inspection, key: str) -> Iterator[bytes]:
    info = look.store.head(key)
    for start in range(0, info.size_bytes if info else 0, _CHUNK_BYTES):
        yield look.store.get(key, start=start, length=_CHUNK_BYTES)


def _look_at_checks(look: Inspection, need: Need) -> None:
    look.keys.add(need.key)
    if look.store.head(need.key) is None:
        return  # they are made again as they are needed
    try:
        why = why_checks_damaged(look.store, need)
    except StorageError as error:
        look.error(need.key, error)
        return
    if why is not None:
        look.add(Cause.DIGEST, need.key, f"{why}; what {need.by} is verified by as it is read")
