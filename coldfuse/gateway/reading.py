"""Reading what a release lists, and nothing else, verified."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache

from coldfuse.core.blob import Blob, Part
from coldfuse.core.gating import Evaluated
from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import DamagedObjectError, FederationError, ObjectNotFoundError, UserInputError
from coldfuse.gateway.auditing import parts_behind
from coldfuse.registry.channels import CANDIDATE
from coldfuse.registry.collected import CollectedSoFar
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checks import Checks, checks_of, list_starts
from coldfuse.tensors.verified import VerifiedReader

NUM_RELEASES_KEPT = 16
"""Releases whose lists of parts are kept in memory, a megabyte each at the very most."""

_NUM_READERS = 64
"""Parts of releases that are ready to be read, each with at most 64 KiB that were read of it, or of its checks."""

_CANDIDATE_S = 2.0
"""Seconds for which it is known which candidate a number stands for."""


class ReleaseReader:
    """Reads the parts of a federation's releases; any thread may use it."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._parts_of = lru_cache(maxsize=NUM_RELEASES_KEPT)(self._read_parts_of)
        self._reader_of = lru_cache(maxsize=_NUM_READERS)(self._open_part)
        self._parts_of_candidate = lru_cache(maxsize=2)(self._read_candidate)
        self._candidates: dict[int, tuple[float, str]] = {}

    def check(self, release: int, digest: str, *, start: int, length: int) -> None:
        """Refuse to read what is no part of the release, or lies outside of it: contributions stay private."""
        found = self._parts(release).get(digest)
        if found is None and self._candidates.pop(release, None) is not None:  # another one may have come since
            found = self._parts(release).get(digest)
        if found is None:
            raise ObjectNotFoundError(
                f"release {release} has no part {digest!r}; only what a release lists can be read"
            )
        if start + length > found[0].size_bytes:
            raise UserInputError(
                f"part {digest[:12]} has {found[0].size_bytes:,} bytes, asked for bytes up to {start + length:,}"
            )

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int) -> None:
        """Fill the buffer from `start` of a part that `check` let through."""
        try:
            self._reader_of(release, digest).read_into(buffer, start)
        except DamagedObjectError as error:
            if release in CollectedSoFar(self._federation).releases.files:
                raise FederationError(
                    f"release {release}: its files were removed by the federation's retention rules; take a newer one"
                ) from error
            raise

    def is_candidate(self, release: int) -> bool:
        """Tell whether what `check` let through last under this number is no release yet."""
        return release in self._candidates

    def _parts(self, release: int) -> Mapping[str, tuple[Part, Checks | None]]:
        """Return the parts of a release, or of the candidate for it: one after the other may have its number."""
        seen_s, manifest = self._candidates.get(release, (float("-inf"), ""))
        if time.monotonic() - seen_s < _CANDIDATE_S:
            return self._parts_of_candidate(manifest)
        try:
            found = self._parts_of(release)
        except FederationError:
            pointer = self._candidate()
            if pointer is None or pointer.release != release:
                raise
            self._candidates = {release: (time.monotonic(), pointer.manifest)}
            return self._parts_of_candidate(pointer.manifest)
        self._candidates.pop(release, None)
        return found

    def _candidate(self) -> Channel | None:
        try:
            return self._federation.channel(CANDIDATE)
        except FederationError:
            return None

    def _read_candidate(self, manifest: str) -> Mapping[str, tuple[Part, Checks | None]]:
        return _parts_of_files(self._federation.objects.get_value(ReleaseManifest, manifest))

    def _open_part(self, release: int, digest: str) -> VerifiedReader:
        part, checks = self._parts(release)[digest]
        return VerifiedReader(self._federation.store, Blob(parts=(part,)), checks, what=f"release {release}")

    def _read_parts_of(self, release: int) -> Mapping[str, tuple[Part, Checks | None]]:
        """Return a release's parts by their digests, each with what it is verified by."""
        manifest = self._federation.release(release)
        found: dict[str, tuple[Part, Checks | None]] = {}
        if self._federation.settings.is_auditable:
            found |= {part.digest: (part, None) for part in parts_behind(self._federation, manifest)}
        return found | _parts_of_files(manifest)


def _parts_of_files(manifest: ReleaseManifest) -> dict[str, tuple[Part, Checks | None]]:
    found: dict[str, tuple[Part, Checks | None]] = {}
    for name, blob in manifest.files.items():
        checks = checks_of(blob, manifest.checks.get(name))
        for index, (part, at) in enumerate(zip(blob.parts, list_starts(blob), strict=False)):
            found[part.digest] = part, checks.range(index, at) if checks else None
    return found


def evaluation_of(federation: Federation, release: int) -> Evaluated | None:
    """Return what the gate has decided on a release, by the journal of the round that has made it."""
    data = federation.release_bytes(release)
    number = decode(ReleaseManifest, data, what=f"release {release}").round
    return federation.journal(number).state().gating.of(sha256(data)) if number else None
