"""Bringing what a release was made from, out of an auditable federation, into a folder where it can be fused again.

Nothing that is brought is believed: what lies in the folder is verified like any copy of a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import LeaderEvent
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import CodecError, DamagedObjectError, NotAllowedError, ObjectNotFoundError
from coldfuse.gateway.auditing import sent_key
from coldfuse.registry.chain import Link
from coldfuse.registry.releases import release_key
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.envelope import read_envelope
from coldfuse.trust.model_signature import model_signature_key
from coldfuse.trust.provenance import statement_key
from coldfuse.trust.view import root_key

_KINDS = tuple(kind.model_fields["event"].default for kind in get_args(LeaderEvent))
_MAX_ENTRIES = 100_000
"""Entries of one journal that are brought: a lying gateway may name any number."""

_CHUNK_BYTES = 4 << 20


class Mirror:
    """Brings parts of one federation into a store of one's own."""

    def __init__(self, gateway: TrustedGateway, store: ObjectStore) -> None:
        """Take whom to ask, and where it goes; nothing is asked yet."""
        self._gateway = gateway
        self._store = store

    def bring(self, number: int) -> None:
        """Bring a release, its parent, the journals behind it, and what contributors have sent.

        Raises:
            NotAllowedError: The federation is not auditable.
            TrustError: What is handed out as a release is not signed.
            DamagedObjectError: Something is missing, or is not what it is named by.
        """
        if not self._gateway.belief.settings().is_auditable:
            raise NotAllowedError(
                "what contributors send is private in this federation: only who can read its store, or has a copy of "
                "it, can fuse a release again: coldfuse verify STORE --recompute"
            )
        for key in (SETTINGS_KEY, *self._roots()):
            self._bring_signed(key)
        release = self._bring_release(number)
        if release.parent is None:
            return
        parent = self._bring_release(release.parent)
        self._bring_files(
            parent.release, [*parent.files.values(), *(parent.outer.files if parent.outer else {}).values()]
        )
        rounds = {release.round}
        for fused in release.contributions:
            manifest = self._bring_contribution(number, fused.contribution)
            rounds.add(manifest.round)
            self._bring_files(number, manifest.files)
        self._bring_files(number, release.files.values())
        rounds |= self._bring_replaced(release)
        for round_number in rounds:
            self._bring_journal(round_number)

    def _bring_replaced(self, release: ReleaseManifest) -> set[int]:
        """Bring the manifests of the releases that one has taken the place of; return the rounds that made them."""
        retraction = release.retraction
        if retraction is None:
            return set()
        number: int | None = retraction.replaces
        while number is not None and number != release.parent:
            before = self._bring_release(number).parent
            if before is not None and before >= number:
                raise CodecError(f"release {number}: is said to be made from {before}, which came later")
            number = before
        for step in retraction.steps:
            self._bring_release(step.release)
        return {step.round for step in retraction.steps}

    def _roots(self) -> Iterator[str]:
        yield from (root_key(version) for version in range(1, self._gateway.belief.root().version + 1))

    def _bring_signed(self, key: str) -> bytes | None:
        data = self._gateway.read_signed(key)
        if data is not None:
            self._store.put_if_absent(key, data)
        return data

    def _bring_release(self, number: int) -> ReleaseManifest:
        data = self._gateway.release_bytes(number)
        self._store.put_if_absent(release_key(number), data)
        for key in (statement_key(number), model_signature_key(number)):
            self._bring_signed(key)
        return decode(ReleaseManifest, data, what=f"release {number}")

    def _bring_contribution(self, release: int, contribution: str) -> ContributionManifest:
        data = self._gateway.read_signed(sent_key(release, contribution))
        if data is None or sha256(data) != contribution:
            raise DamagedObjectError(f"contribution {contribution[:12]}: what is handed out for it is something else")
        self._store.put_if_absent(f"objects/{contribution}", data)
        return decode(ContributionManifest, data, what=f"contribution {contribution[:12]}")

    def _bring_files(self, release: int, files: Iterable[Blob]) -> None:
        for part in {part.digest: part for blob in files for part in blob.parts}.values():
            self._bring_part(release, part)

    def _bring_part(self, release: int, part: Part) -> None:
        key = f"objects/{part.digest}"
        if self._store.head(key) is not None:
            return
        with self._store.open_writer(key) as writer:
            for start in range(0, part.size_bytes, _CHUNK_BYTES):
                data = bytearray(min(_CHUNK_BYTES, part.size_bytes - start))
                self._gateway.read_into(release, part.digest, memoryview(data), start)
                writer.write(bytes(data))
            writer.commit()

    def _bring_journal(self, number: int) -> None:
        key = f"rounds/{number:05d}/head"
        data = self._bring_signed(key)
        if data is None:
            raise ObjectNotFoundError(
                f"{key}: is not handed out, and without it nobody knows what the round has decided"
            )
        link = decode(Link, read_envelope(data, what=key).content("journal", what=key), what=key)
        if link.seq >= _MAX_ENTRIES:
            raise CodecError(f"{key}: names entry {link.seq}, expected fewer than {_MAX_ENTRIES}")
        for place in range(link.seq + 1):
            self._bring_entry(number, place)

    def _bring_entry(self, number: int, place: int) -> None:
        for kind in _by_place(place):
            if self._bring_signed(f"rounds/{number:05d}/journal/{place:08d}-{kind}") is not None:
                return


def _by_place(place: int) -> Sequence[str]:
    """Return the kinds of entries, the likely ones first."""
    first = "opened" if place == 0 else "admitted"
    return (first, *(kind for kind in _KINDS if kind != first))
