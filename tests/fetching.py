"""What tests of a fetch count, break and look at."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from coldfuse.consumer import read_fetched
from coldfuse.core.model_files import CARD_FILE
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import TransportError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checkpoint import open_checkpoint


@dataclass
class Source:
    """A source that counts what it gives, and fails or lies where it is asked to."""

    federation: Federation
    fails_after: int | None = None
    tampered: str | None = None
    changes: dict[str, object] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    given_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        return StoreGateway(self.federation).release(which).model_copy(update=self.changes)

    def read_signed(self, key: str) -> bytes | None:
        return StoreGateway(self.federation).read_signed(key)

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
        with self.lock:
            if self.fails_after is not None and len(self.given) >= self.fails_after:
                raise TransportError("injected")
            self.given.append(digest)
            self.given_bytes += len(buffer)
        StoreGateway(self.federation).read_into(release, digest, buffer, start)
        if digest == self.tampered:
            buffer[0] ^= 1


def size_of(manifest: ReleaseManifest) -> int:
    return sum(blob.size_bytes for blob in manifest.files.values())


def parts_of(manifest: ReleaseManifest) -> set[str]:
    return {part.digest for blob in manifest.files.values() for part in blob.parts}


def check_whole(federation: Federation, out: Path, number: int | None = None) -> None:
    """Assert that the folder holds a release, the latest by default, its card and nothing else."""
    manifest = federation.latest() if number is None else federation.release(number)
    assert open_checkpoint(out).digest() == manifest.model_digest
    assert read_fetched(out) == manifest
    files = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert {file for file in files if not file.startswith(".coldfuse")} == {CARD_FILE, *manifest.files}
