"""Where releases lie, and what was contributed to them, for who compares them: a gateway, and perhaps the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from coldfuse.core.blob import Blob
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import sha256
from coldfuse.errors import DamagedObjectError, NotAllowedError, ObjectNotFoundError, UserInputError
from coldfuse.gateway.auditing import sent_key
from coldfuse.movement.parts import HELD_BYTES, Parts, PartsFile
from coldfuse.registry.objects import Objects

_ERASED = "its bytes were erased, as a tombstone says"


class Source(Protocol):
    """Whom is asked: a gateway, which verifies what has to be signed."""

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return the manifest of a release by number, or the one that a channel points to."""

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
        """Fill the buffer from `start` of a part of this release."""

    def read_signed(self, key: str) -> bytes | None:
        """Return what lies under a key; None where there is nothing."""


class History:
    """Reads releases and, where that is allowed, what was contributed to them. One thread uses it."""

    def __init__(
        self, source: Source, objects: Objects | None = None, *, was_erased: Callable[[str], bool] = lambda _: False,
        held_bytes: int = HELD_BYTES,
    ) -> None:  # fmt: skip
        """Ask nothing yet.

        Args:
            source: Whom is asked for releases.
            objects: The store's objects, for who can read the store: what was contributed lies there. None: the source
                is asked for it, too, which hands it out in an auditable federation alone.
            was_erased: Tells whether an object was erased on purpose, by its digest.
            held_bytes: Number of bytes of parts that are held.
        """
        self._source, self._objects, self._was_erased = source, objects, was_erased
        self._release_of: dict[str, int] = {}
        self.parts = Parts(self._read, most_bytes=held_bytes)
        """Reads parts of all files that were opened here."""

    def release(self, which: int | str) -> ReleaseManifest:
        """Return a release's manifest, whose parts can be read from then on.

        Raises:
            FederationError: There is no such release.
        """
        manifest = self._source.release(which)
        self._note(manifest.release, manifest.files.values())
        return manifest

    def sent(self, release: int, contribution: str) -> bytes:
        """Return the manifest of a contribution to a release, verified.

        Raises:
            NotAllowedError: What contributors send is private here.
            DamagedObjectError: It can no longer be read.
        """
        if self._was_erased(contribution):
            raise ObjectNotFoundError(_ERASED)
        data = self._ask(release, contribution) if self._objects is None else self._objects.get(contribution)
        if data is None or sha256(data) != contribution:
            raise DamagedObjectError(f"contribution {contribution[:12]}: what is handed out for it is something else")
        return data

    def open(self, release: int, files: Iterable[tuple[str, Blob]]) -> list[PartsFile]:
        """Return files that went into a release, each with its name for people, to be read part by part."""
        named = list(files)
        self._note(release, [blob for _, blob in named] if self._objects is None else [])
        return [PartsFile(blob, name, self.parts) for name, blob in named]

    def _ask(self, release: int, contribution: str) -> bytes | None:
        try:
            return self._source.read_signed(sent_key(release, contribution))
        except (UserInputError, NotAllowedError) as error:
            raise NotAllowedError(
                "what contributors send is private in this federation: who can read its store, or is a member of an "
                "auditable one, sees who has moved what"
            ) from error

    def _note(self, release: int, files: Iterable[Blob]) -> None:
        for blob in files:
            for part in blob.parts:
                self._release_of.setdefault(part.digest, release)

    def _read(self, digest: str, buffer: memoryview) -> None:
        if digest in self._release_of:
            self._source.read_into(self._release_of[digest], digest, buffer)
        elif self._was_erased(digest):
            raise ObjectNotFoundError(_ERASED)
        elif self._objects is not None:
            self._objects.read_into(digest, buffer, 0)
        else:
            raise ObjectNotFoundError(f"part {digest[:12]}: belongs to no release that was asked for")
