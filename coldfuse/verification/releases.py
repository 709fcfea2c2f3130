"""Releases, from one back to the first base: each is named by the one after it, and signed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coldfuse.core.federation import FederationSettings
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import CodecError, TrustError
from coldfuse.registry.releases import release_key
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.trust.model_signature import model_signature_key, read_signature, root_digest
from coldfuse.trust.provenance import Statement, read_statement, require_about, statement_key
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.signers import Signers


@dataclass(frozen=True, kw_only=True)
class SeenRelease:
    """A release as it was read."""

    digest: str
    """SHA-256 of its manifest's bytes."""
    manifest: ReleaseManifest
    statement: Statement | None = None
    """What is signed about it; None where nothing is that can be believed."""

    @property
    def number(self) -> int:
        """Number of the release."""
        return self.manifest.release


@dataclass(frozen=True)
class Lineage:
    """Looks at releases of one federation."""

    look: Inspection
    settings: FederationSettings
    signers: Signers | None

    def back_from(self, number: int, digest: str | None) -> Iterator[SeenRelease]:
        """Look at a release and those before it.

        Args:
            number: Number of the release.
            digest: SHA-256 that its manifest must have; None where nothing names it.
        """
        wanted: int | None = number
        while wanted is not None:
            found = self.read(wanted, self.settings.release_zero if wanted == 0 else digest)
            if found is None:
                wanted, digest = self._before(wanted), None
                continue
            yield found
            wanted, digest = found.manifest.parent, found.statement.parent if found.statement else None

    def _before(self, number: int) -> int | None:
        """Return the number of the last release before one that is missing."""
        return max((there for there in numbers_of_releases(self.look.store) if there < number), default=None)

    def read(self, number: int, digest: str | None) -> SeenRelease | None:
        """Look at one release; None where its manifest is missing or is none."""
        key = release_key(number)
        data = self.look.read(key)
        if data is None:
            self.look.add(Cause.GAP, key, "is missing: the lineage ends here, and nobody knows what came before")
            return None
        self.look.looked_at["releases"] += 1
        found = sha256(data)
        if digest is not None and found != digest:
            self.look.add(Cause.DIGEST, key, f"has the SHA-256 {found[:16]}, and what names it says {digest[:16]}")
        try:
            manifest = decode(ReleaseManifest, data, what=key)
        except CodecError as error:
            self.look.error(key, error)
            return None
        self._look_at_facts(number, manifest)
        return SeenRelease(digest=found, manifest=manifest, statement=self._statement(manifest, found))

    def _look_at_facts(self, number: int, manifest: ReleaseManifest) -> None:
        key = release_key(number)
        if manifest.release != number:
            self.look.add(Cause.CONTRADICTION, key, f"says that it is release {manifest.release}")
        if manifest.federation != self.settings.federation:
            self.look.add(Cause.CONTRADICTION, key, f"is of another federation, {manifest.federation[:16]}")
        if (manifest.parent is None) != (number == 0) or (manifest.parent or 0) > max(number - 1, 0):
            self.look.add(Cause.GAP, key, f"names release {manifest.parent} as its parent")

    def _statement(self, manifest: ReleaseManifest, digest: str) -> Statement | None:
        key = statement_key(manifest.release)
        data = self.look.read(key)
        if self.signers is None or not self.settings.is_signed_release(manifest.release):
            if data is None:
                self.look.add(Cause.UNSIGNED, release_key(manifest.release), "is of a time when nothing was signed")
            return None
        if data is None:
            self.look.add(Cause.SIGNATURE, key, "is missing: nobody has signed this release")
            return None
        payload = self.signers.open(
            self.look, data, "provenance", "aggregator", key=key, at_s=manifest.created_at_s
        )  # fmt: skip
        if payload is None:
            return None
        try:
            statement = read_statement(payload, what=key)
            require_about(statement, manifest, digest=digest, what=key)
        except (TrustError, CodecError) as error:
            self.look.error(key, error)
            return None
        self.look.looked_at["signatures of releases"] += 1
        self._look_at_model_signature(manifest, statement)
        return statement

    def _look_at_model_signature(self, manifest: ReleaseManifest, statement: Statement) -> None:
        """Look at what other tools verify a fetched folder by."""
        key = model_signature_key(manifest.release)
        data = self.look.read(key)
        if data is None or self.signers is None:
            if statement.files is not None:
                self.look.add(Cause.GAP, key, "is missing: the statement on this release names it")
            return
        with self.look.noting(key):
            signed = read_signature(data, self.signers.keys_of("model"))
            if root_digest(signed.digests) != statement.files:
                self.look.add(Cause.SIGNATURE, key, "is of other files than the statement on this release names")
            if signed.digests.keys() != manifest.files.keys():
                self.look.add(Cause.SIGNATURE, key, "is of other files than the release's manifest names")
            for path, blob in manifest.files.items():
                if len(blob.parts) == 1 and signed.digests.get(path) not in (blob.parts[0].digest, None):
                    self.look.add(Cause.SIGNATURE, key, f"says another SHA-256 of {path} than the manifest")


def numbers_of_releases(store: ObjectStore) -> list[int]:
    """Return the numbers of the releases whose manifests are there."""
    names = (key.removeprefix("releases/").removesuffix(".json") for key in list_keys(store, "releases/"))
    return sorted(int(name) for name in names if name.isdecimal())
