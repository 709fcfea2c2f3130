"""Stores and gateways that lie: real ones, with a layer that hands out something else, and counts that it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from faulty_store import FaultyStore

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import ObjectNotFoundError
from coldfuse.gateway import ContributionVerdict, ReleaseName, Status, StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.registry.releases import release_key
from coldfuse.storage import ObjectInfo, ObjectStore


@dataclass
class Lies:
    """What is handed out in the place of the truth."""

    signed: dict[str, bytes | None] = field(default_factory=dict)
    """What lies under a key; None: nothing."""
    manifests: dict[int, bytes] = field(default_factory=dict)
    """Manifests of releases, by number."""
    parts: dict[str, bytes] = field(default_factory=dict)
    """Parts of files, by the digest that they should have."""
    latest: ReleaseName | None = None
    """What a status says is the latest release."""
    verdict: ContributionVerdict | None = None
    """What became of every contribution, as it says."""
    told: Counter[str] = field(default_factory=Counter)
    """How often each was told."""
    told_bytes: int = 0

    def tell(self, what: str, lie: bytes) -> bytes:
        self.told[what] += 1
        self.told_bytes += len(lie)
        return lie

    def stored(self) -> dict[str, bytes | None]:
        """Return the lies as what lies in a store."""
        return (
            self.signed
            | {release_key(number): data for number, data in self.manifests.items()}
            | {f"objects/{digest}": data for digest, data in self.parts.items()}
            | {f"objects/{sha256(data)}": data for data in self.manifests.values()}  # what is written is one, too
        )


class LyingStore(FaultyStore):
    """A store that somebody else can write to: a bucket's owner, or who has broken into it."""

    def __init__(self, store: ObjectStore, lies: Lies) -> None:
        super().__init__(store)
        self.lies = lies

    def head(self, key: str) -> ObjectInfo | None:
        lies = self.lies.stored()
        if key not in lies:
            return super().head(key)
        data = lies[key]
        return None if data is None else ObjectInfo(size_bytes=len(data), etag="an-etag")

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        lies = self.lies.stored()
        if key not in lies:
            return super().get(key, start=start, length=length)
        return self._lie(key, start, length)

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        if key in self.lies.stored():
            return self._lie(key, 0, None), "an-etag"
        return super().get_with_etag(key)

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        if key not in self.lies.stored():
            super().read_into(key, buffer, start=start)
            return
        data = self._lie(key, start, len(buffer))
        buffer[: len(data)] = data

    def _lie(self, key: str, start: int, length: int | None) -> bytes:
        data = self.lies.stored()[key]
        if data is None:
            self.lies.told[key] += 1
            raise ObjectNotFoundError(f"{key}: hidden; no such object")
        return self.lies.tell(key, data[start : None if length is None else start + length])


class LyingGateway(StoreGateway):
    """A gateway that somebody else runs: the store is as it should be."""

    lies = Lies()

    def read_signed(self, key: str) -> bytes | None:
        if key not in self.lies.signed:
            return super().read_signed(key)
        data = self.lies.signed[key]
        if data is None:
            self.lies.told[key] += 1
            return None
        return self.lies.tell(key, data)

    def release_bytes(self, which: int | str = "latest") -> bytes:
        if isinstance(which, int) and which in self.lies.manifests:
            return self.lies.tell(release_key(which), self.lies.manifests[which])
        return super().release_bytes(which)

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        return decode(ReleaseManifest, self.release_bytes(which), what="release")

    def check_read(self, release: int, digest: str, *, start: int, length: int) -> None:
        if digest not in self.lies.parts:
            super().check_read(release, digest, start=start, length=length)

    def read(self, release: int, digest: str, start: int, length: int) -> bytes:
        if digest not in self.lies.parts:
            return super().read(release, digest, start, length)
        return self.lies.tell(f"objects/{digest}", self.lies.parts[digest][start : start + length])

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        found = super().verdict(round_number, contribution)
        if self.lies.verdict is None:
            return found
        self.lies.told["verdict"] += 1
        return replace(self.lies.verdict, contribution=contribution)

    def recent_status(self) -> Status | None:
        return None

    def status(self) -> Status:
        found = super().status()
        if self.lies.latest is None:
            return found
        self.lies.told["status"] += 1
        return replace(found, latest=self.lies.latest)


@contextmanager
def lying_gateways(lies: Lies) -> Iterator[None]:
    """Let every gateway that this process serves tell these lies."""
    with pytest.MonkeyPatch.context() as patch:
        kind = type("Lying", (LyingGateway,), {"lies": lies})
        patch.setattr("coldfuse.transport.server.StoreGateway", kind)
        yield


def open_lying(federation: Federation, lies: Lies) -> Federation:
    """Return a federation as it looks in a store that lies."""
    return replace(federation, store=LyingStore(federation.store, lies))
