"""What everybody asks of a federation, as a Protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.federation import SettingsChange
from coldfuse.core.gating import Evaluated
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode
from coldfuse.core.signature import Signature
from coldfuse.gateway.answers import ContributionVerdict, ReleaseSummary, Status, UploadReport
from coldfuse.tensors.blobs import ReadRange

PARALLEL = 4
"""Parts that are sent or brought at a time, unless the caller says otherwise."""

MIN_POLL_S, MAX_POLL_S = 0.5, 60.0
"""Bounds of the pause that a status asks for, whoever says it."""
OnProgress = Callable[[int, int], None]
"""on_progress(done_bytes, total_bytes): called from several threads, never from two at once."""


class Gateway(Protocol):
    """A federation, as contributors and consumers see it.

    `StoreGateway` answers from a store, `GatewayClient` over the network. Threads may share either. All calls may be
    repeated without harm, and raise errors of `errors.py` only: `StorageError` when the store fails, `TransportError`
    when a gateway is out of reach.
    """

    def status(self) -> Status:
        """Say where the federation stands."""

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return a release's manifest; see `release_bytes`."""
        return decode(ReleaseManifest, self.release_bytes(which), what=f"release {which}")

    def release_bytes(self, which: int | str = "latest") -> bytes:
        """Return a release's manifest as it was written: its digest holds for exactly these bytes.

        Args:
            which: The release's number, or a channel that points to it.

        Raises:
            FederationError: There is no such release or channel.
            UserInputError: No channel can have this name.
        """

    def releases(self, *, before: int | None = None) -> Iterator[ReleaseSummary]:
        """List the history, newest first; what is not asked for is not read.

        Args:
            before: Only releases with a lower number; None: from the latest on.
        """

    def changes(self) -> Iterator[SettingsChange]:
        """List the changes of the federation's settings, newest first; none from a gateway on another machine."""
        return iter(())

    def evaluation(self, release: int) -> Evaluated | None:  # noqa: ARG002
        """Return what the gate has decided on a release; None where there is none, or on another machine."""
        return None

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
        """Fill the buffer with bytes of a part. The caller checks the part's digest.

        Args:
            release: Number of a release that lists the part.
            digest: SHA-256 of the part.
            buffer: Where the bytes go; all of it is filled.
            start: First byte of the part to read.

        Raises:
            ObjectNotFoundError: The release lists no such part.
            UserInputError: The part ends before the buffer is full.
        """

    def find_missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that the store does not hold in full, each once, in their order."""

    def upload(
        self, blob: Blob, read_range: ReadRange, *, progress: OnProgress | None = None, parallel: int = PARALLEL
    ) -> UploadReport:
        """Store what is missing of a file. Called again after any failure, it goes on with what is missing then.

        Args:
            blob: The file's parts.
            read_range: Reads the file; several threads call it at once, and what it raises ends the upload.
            progress: Is called after every chunk.
            parallel: How many parts are sent at a time.

        Raises:
            DigestMismatchError: What was read has not the digest that `blob` says.
        """

    def commit(self, manifest: ContributionManifest, signature: Signature | None = None) -> ContributionVerdict:
        """Hand in a contribution whose parts were uploaded.

        Once this returned, the contribution is durable and gets exactly one verdict; committing it again returns that.

        Args:
            manifest: The contribution.
            signature: Its contributor's, over the manifest's bytes; None where the federation has no root.

        Raises:
            RoundClosedError: The round is over or not open yet, or is on another base.
            ContributionRejectedError: The federation can never take this contribution, or parts of it are missing.
            SignatureError: It is not signed as it has to be.
            NotAllowedError: The key is not that contributor's, or they may not contribute.
        """

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        """Say what became of a contribution.

        Args:
            round_number: The round that it was committed to.
            contribution: SHA-256 of its manifest.

        Raises:
            ObjectNotFoundError: The round has received no such contribution.
        """

    def verdict_entry(self, round_number: int, contribution: str) -> bytes | None:
        """Return the signed entry of the journal that says what became of a contribution; None where there is none.

        Raises as `verdict`.
        """

    def read_signed(self, key: str) -> bytes | None:
        """Return what is signed and lies under a key of the store, unverified; None where there is nothing.

        Args:
            key: Such as `root/2.json`, `members/3.json`, `channels/latest` or `releases/00012.sig`.

        Raises:
            UserInputError: What lies under this key is not for others.
        """

    def join(self, statement: bytes) -> None:
        """Bind a key to a member's name; the same statement again is success.

        Args:
            statement: Envelope of a `KeyStatement`, signed by the invitation (or the key before it) and by the key.

        Raises:
            FederationError: The federation has no root, and so no members.
            NotAllowedError: There is no such invitation, it is too late, or another key has been bound.
            SignatureError: The statement is not signed as it has to be.
        """

    def put_check(self, envelope: bytes) -> None:
        """Hand in a member's signed word on a release; a newer one of the same member takes its place.

        Raises:
            FederationError: The federation has no root, and so no members.
            NotAllowedError: The key is not that member's, or they may not.
            SignatureError: It is not signed as it has to be.
        """

    def put_score(self, envelope: bytes) -> None:
        """Hand in an evaluator's signed counts on the candidate that waits for them; the last word counts.

        Raises:
            FederationError: The federation has no members, or no such candidate waits.
            NotAllowedError: The key is not that member's, or they may not.
            SignatureError: It is not signed as it has to be.
            ConflictError: The member has said something newer, or enough.
        """

    def close(self) -> None:
        """Let go of connections and threads; calls in other threads fail."""

    def __enter__(self) -> Self:
        """Return the gateway itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
