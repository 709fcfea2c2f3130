"""A gateway straight on a store. Its functions block while the store does; any thread may call them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from coldfuse.core.blob import Blob, Part, part_bytes
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.federation import LAYOUT_VERSION, SettingsChange
from coldfuse.core.gating import Evaluated
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.signature import Signature
from coldfuse.core.words import printable
from coldfuse.errors import FederationError, ObjectNotFoundError, StorageError, UserInputError
from coldfuse.gateway.answers import ContributionVerdict, ReleaseName, ReleaseSummary, Status, UploadReport, summarize
from coldfuse.gateway.auditing import is_behind, read_behind
from coldfuse.gateway.base import MAX_POLL_S, MIN_POLL_S, PARALLEL, Gateway, OnProgress
from coldfuse.gateway.contributions import Committer, encode_manifest
from coldfuse.gateway.reading import ReleaseReader, evaluation_of
from coldfuse.gateway.rounds import Rounds, describe_round, explain_change, find_verdict, pending
from coldfuse.gateway.signed import SignedReader
from coldfuse.gateway.single_flight import SingleFlight
from coldfuse.gateway.upload import OnSent, OnStored, PartUpload, send_parts
from coldfuse.registry.channels import CANDIDATE, check_channel
from coldfuse.registry.federation import Federation
from coldfuse.registry.members import bind_key
from coldfuse.registry.quarantine import read_quarantine
from coldfuse.registry.recomputed import put_check
from coldfuse.registry.scores import put_score
from coldfuse.storage.base import BuffersWrites
from coldfuse.tensors.blobs import ReadRange
from coldfuse.trust.view import TrustView

PROTOCOL_VERSION = 1

STATUS_AGE_S = 0.5
"""Largest age of a status or a verdict that is given out again."""

CALLS_PER_S = 500.0
"""Number of status calls a second that a gateway wants to answer at most."""

_CHUNK_BYTES = 1 << 20


class StoreGateway(Gateway):
    """One federation, as others see it. Keeps nothing that is not in the store, but for short-lived copies.

    A `Gateway` for who can reach the store, and what a server hands its calls to for everybody else.
    """

    def __init__(self, federation: Federation, *, num_threads: int = 16) -> None:
        """Take the federation; threads are started when they are needed, and end with `close`.

        Args:
            federation: The federation, opened.
            num_threads: How many parts are asked for at a time.
        """
        self._federation = federation
        self._threads = ThreadPoolExecutor(num_threads, "gateway-heads")
        self._rounds = Rounds(federation)
        self._committer = Committer(federation, self._rounds, threads=self._threads)
        self._status = SingleFlight(self._read_status)
        self.reader = ReleaseReader(federation)
        self._signed = SignedReader(federation.store)
        self._max_part_bytes = part_bytes(federation.settings.max_contribution_bytes)
        self._num_calls, self._counted_at_s, self._poll_s = 0, time.monotonic(), MIN_POLL_S

    def recent_status(self) -> Status | None:
        """Return the status if it is known without asking the store; never waits."""
        self._num_calls += 1  # unlocked on purpose: a call lost now and then changes no pace
        return self._status.peek(max_age_s=STATUS_AGE_S)

    def status(self) -> Status:
        """Say where the federation stands."""
        return self._status.get(max_age_s=STATUS_AGE_S)

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return a release's manifest, by number or channel."""
        if isinstance(which, int):
            return self._federation.release(which)
        return self._federation.release_of(check_channel(which))

    def release_bytes(self, which: int | str = "latest") -> bytes:
        """Return a release's manifest as it was written: its digest holds for exactly these bytes."""
        if isinstance(which, int):
            return self._federation.release_bytes(which)
        pointer = self._federation.channel(check_channel(which))
        if which == CANDIDATE:  # there is no release of it
            return self._federation.objects.get(pointer.manifest)
        return self._federation.release_bytes(pointer.release)

    def releases(self, *, before: int | None = None) -> Iterator[ReleaseSummary]:
        """List the history, newest first; each release is read when it is asked for."""
        newest = self._federation.channel("latest").newest
        for number in range(newest if before is None else min(before - 1, newest), -1, -1):
            yield summarize(self._federation.release_bytes(number))

    def changes(self) -> Iterator[SettingsChange]:
        """List the changes of the federation's settings, newest first."""
        return self._federation.changes()

    def evaluation(self, release: int) -> Evaluated | None:
        """Return what the gate has decided on a release; None where there is none."""
        return evaluation_of(self._federation, release)

    def check_read(self, release: int, digest: str, *, start: int, length: int) -> None:
        """Refuse to read what is no part of the release, or lies outside of it: contributions stay private."""
        self.reader.check(release, digest, start=start, length=length)

    def read(self, release: int, digest: str, start: int, length: int) -> bytes:
        """Return a range that `check_read` let through, verified."""
        data = bytearray(length)
        self.reader.read_into(release, digest, memoryview(data), start)
        return bytes(data)

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
        """Fill the buffer from `start` of a release's part."""
        self.reader.check(release, digest, start=start, length=len(buffer))
        self.reader.read_into(release, digest, buffer, start)

    def find_missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that the store does not hold in full, each once, in their order."""
        return self._committer.find_missing(parts)

    def write_buffer_bytes(self, size_bytes: int) -> int:
        """Return how many bytes the store keeps in memory of an object of this size while it is written."""
        store = self._federation.store
        return store.write_buffer_bytes(size_bytes) if isinstance(store, BuffersWrites) else 0

    def begin_upload(self, part: Part) -> PartUpload | None:
        """Start to take a part; None if it is there already."""
        if not self._committer.presence.take_missing(part) and self._committer.has_part(part):
            return None
        return self.take(part)

    def take(self, part: Part, *, on_stored: OnStored | None = None) -> PartUpload:
        """Start to take a part, whether it is there or not; `on_stored` is told when it is durable."""
        if part.size_bytes > self._max_part_bytes:
            raise UserInputError(
                f"part {part.digest[:12]} has {part.size_bytes:,} bytes, at most {self._max_part_bytes:,} are taken; "
                "cut the file into smaller parts"
            )

        def stored(part: Part, is_new: bool) -> None:
            if is_new:  # of another one only its size is known
                self._committer.presence.seen(part)
            elif not self._committer.has_part(part):
                raise StorageError(f"part {part.digest[:12]} was damaged in the store, and is gone now; send it again")
            if on_stored is not None:
                on_stored(part, is_new)

        return PartUpload(self._federation.store, part, on_stored=stored)

    def takes_contributions(self) -> bool:
        """Tell whether the current round waits for contributions, so that no release is being made."""
        state = self._rounds.current().state
        return state.opened is None or state.is_open

    def upload(
        self, blob: Blob, read_range: ReadRange, *, progress: OnProgress | None = None, parallel: int = PARALLEL
    ) -> UploadReport:
        """Store what is missing of a file, several parts at a time."""
        stopped = threading.Event()

        def send(part: Part, start: int, on_sent: OnSent) -> int:
            upload = self.begin_upload(part)
            if upload is None:  # somebody sent it meanwhile
                return 0
            buffer = memoryview(bytearray(min(_CHUNK_BYTES, part.size_bytes)))
            try:
                for offset in range(0, part.size_bytes, _CHUNK_BYTES):
                    if stopped.is_set():  # another part has failed
                        return 0
                    chunk = buffer[: part.size_bytes - offset]
                    read_range(chunk, start + offset)
                    upload.write(chunk)
                    on_sent(offset + len(chunk))
                return upload.finish()
            finally:
                upload.abort()

        missing = self.find_missing(blob.parts)
        return send_parts(blob, missing, send, parallel=parallel, progress=progress, stop=stopped.set)

    def commit(self, manifest: ContributionManifest, signature: Signature | None = None) -> ContributionVerdict:
        """Take a contribution whose parts were uploaded."""
        return self.commit_bytes(encode_manifest(manifest), signature)

    def commit_bytes(self, manifest: bytes, signature: Signature | None = None) -> ContributionVerdict:
        """Take a contribution by its manifest's bytes: a signature or a digest holds for exactly these."""
        return self._committer.commit(manifest, signature)

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        """Say what became of a contribution."""
        for max_age_s in (STATUS_AGE_S, 0.0):  # what was committed a moment ago needs a fresh look
            state = self._rounds.led(round_number, max_age_s=max_age_s)
            if (verdict := find_verdict(state, contribution)) is not None:
                return self._committer.ask_again(verdict, state)
            if self._rounds.journal(round_number).has_received(contribution):
                return self._committer.ask_again(pending(contribution), state)
        raise _not_received(round_number, contribution)

    def require_contributor(self, round_number: int, contribution: str, name: str) -> None:
        """Raise `ObjectNotFoundError`, as for one that is not there, unless a contribution is this contributor's."""
        if self._rounds.contributor_of(round_number, contribution) != name:
            raise _not_received(round_number, contribution)

    def verdict_entry(self, round_number: int, contribution: str) -> bytes | None:
        """Return the signed entry of the journal on a contribution; None where nobody has signed it."""
        self.verdict(round_number, contribution)
        return self._rounds.journal(round_number).signed_entry(contribution)

    def join(self, statement: bytes) -> None:
        """Bind a key to a member's name."""
        bind_key(self._federation.store, statement, view=self._require_trust())

    def put_check(self, envelope: bytes) -> None:
        """Keep a member's signed word on a release."""
        put_check(self._federation.store, envelope, self._require_trust(), now_s=self._federation.now_s())

    def put_score(self, envelope: bytes) -> None:
        """Keep an evaluator's signed counts on the candidate that waits for them."""
        view, waiting = self._require_trust(), self._rounds.waiting_candidate()
        late = self._rounds.missed_candidate() if waiting is None else None
        put_score(self._federation.store, envelope, view, waiting=waiting, now_s=self._federation.now_s(), late=late)

    def read_signed(self, key: str) -> bytes | None:
        """Return what is signed and lies under a key; None where there is nothing."""
        if self._federation.settings.is_auditable and is_behind(key):
            return read_behind(self._federation, key)
        return self._signed.read(key)

    def _require_trust(self) -> TrustView:
        if self._federation.trust is None:
            raise FederationError("this federation has no members: it has no root; its operator may run init --adopt")
        return self._federation.trust

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    def _read_status(self) -> Status:
        settings, standing = self._federation.reopened().settings, self._rounds.standing()
        latest, opened = standing.latest, standing.state.opened
        terms = settings.under(opened.terms if opened else None).terms
        now = describe_round(terms.rules, standing)
        name = ReleaseName(number=latest.release, model_digest=latest.model_digest, manifest_digest=latest.manifest)
        if change := explain_change(settings, standing):
            now = replace(now, waits_for=f"{now.waits_for}; {change}")
        return Status(
            protocol_version=PROTOCOL_VERSION,
            layout_version=LAYOUT_VERSION,
            federation=settings.federation,
            name=settings.name,
            method=terms.method,
            rules=terms.rules,
            max_contribution_bytes=settings.max_contribution_bytes,
            latest=name,
            round=now,
            poll_after_s=self._measure_pace(),
            display_name=settings.display_name,
            change=settings.change,
            screening=terms.screening,
            statistics=terms.statistics,
            gate=terms.gate,
            weighting=terms.weighting,
            weighed=self._rounds.weighed(latest.round) if settings.weighting is not None else None,
            quarantined={
                name: printable(entry.reason) for name, entry in read_quarantine(self._federation.store).names.items()
            },
        )

    def _measure_pace(self) -> float:
        now_s = time.monotonic()
        calls_per_s = self._num_calls / max(now_s - self._counted_at_s, STATUS_AGE_S)
        self._poll_s = pace(self._poll_s, calls_per_s=calls_per_s)
        self._num_calls, self._counted_at_s = 0, now_s
        return self._poll_s


def pace(poll_s: float, *, calls_per_s: float) -> float:
    """Return how many seconds to ask callers to wait, from how often they call while they are asked for `poll_s`.

    >>> pace(0.5, calls_per_s=20.0), pace(0.5, calls_per_s=20_000.0), pace(20.0, calls_per_s=500.0)
    (0.5, 20.0, 20.0)
    """
    return min(max(calls_per_s * poll_s / CALLS_PER_S, MIN_POLL_S), MAX_POLL_S)


def _not_received(round_number: int, contribution: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"round {round_number} has received no contribution {contribution!r}")
