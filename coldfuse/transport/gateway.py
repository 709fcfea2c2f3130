"""What a gateway does, as plain functions on a federation. They block while the store does; any thread may call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import lru_cache

from pydantic import ValidationError

from coldfuse.core.blob import Part, part_bytes
from coldfuse.core.federation import LAYOUT_VERSION
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import ObjectNotFoundError, UserInputError
from coldfuse.registry.channels import check_channel
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import object_key
from coldfuse.transport.commit import Committer
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.rounds import MIN_POLL_S, Rounds, describe, judge, pace
from coldfuse.transport.shared import Shared
from coldfuse.transport.upload import PartUpload

PROTOCOL_VERSION = 1

STATUS_AGE_S = 0.5
"""How old an answer to `GetStatus` and `GetVerdict` may be."""

MAX_PARTS_ASKED = 4096
MAX_PAGE = 100
MAX_PAGE_BYTES = 2 << 20
"""A page ends early rather than being longer: a release may have ten thousand contributions."""
NUM_RELEASES_KEPT = 16
"""Releases whose lists of parts are kept in memory, a megabyte each at the very most."""


class Gateway:
    """One federation, as others see it. Keeps nothing that is not in the store, but for short-lived copies."""

    def __init__(self, federation: Federation, *, heads: Executor) -> None:
        """Take the federation, and the threads that ask the store whether parts are there."""
        self._federation = federation
        self._rounds = Rounds(federation)
        self._committer = Committer(federation, self._rounds, heads=heads)
        self._status = Shared(self._read_status)
        self._parts_of = lru_cache(maxsize=NUM_RELEASES_KEPT)(self._read_parts_of)
        self._max_part_bytes = part_bytes(federation.settings.max_contribution_bytes)
        self._num_calls, self._counted_at_s, self._poll_s = 0, time.monotonic(), MIN_POLL_S

    def recent_status(self) -> pb.GetStatusResponse | None:
        """Return the status if it is known without asking the store; never waits."""
        self._num_calls += 1  # unlocked on purpose: a call lost now and then changes no pace
        return self._status.peek(max_age_s=STATUS_AGE_S)

    def status(self, _: pb.GetStatusRequest) -> pb.GetStatusResponse:
        """Say where the federation stands."""
        return self._status.get(max_age_s=STATUS_AGE_S)

    def release(self, request: pb.GetReleaseRequest) -> pb.GetReleaseResponse:
        """Return a release's manifest."""
        match request.WhichOneof("which"):
            case "number":
                number = request.number
            case "channel":
                number = self._federation.channel(check_channel(request.channel)).release
            case _:
                raise UserInputError("GetRelease: expected a number or a channel")
        data = self._federation.release_bytes(number)
        return pb.GetReleaseResponse(manifest_json=data, manifest_digest=sha256(data))

    def releases(self, request: pb.ListReleasesRequest) -> pb.ListReleasesResponse:
        """List releases, newest first."""
        before = self._federation.channel("latest").release + 1
        if request.HasField("before"):
            before = min(before, request.before)
        first = max(before - min(request.page_size or MAX_PAGE, MAX_PAGE), 0)
        page: list[pb.ReleaseSummary] = []
        size_bytes = 0
        for number in reversed(range(first, before)):
            summary = summarize(self._federation.release_bytes(number))
            size_bytes += summary.ByteSize()
            if page and size_bytes > MAX_PAGE_BYTES:
                first = number + 1
                break
            page.append(summary)
        return pb.ListReleasesResponse(releases=page, next_before=first or None)

    def check_read(self, request: pb.ReadObjectRequest) -> None:
        """Refuse to read what is no part of the release, or lies outside of it."""
        size_bytes = self._parts_of(request.release).get(request.digest)
        if size_bytes is None:
            raise ObjectNotFoundError(
                f"release {request.release} has no part {request.digest!r}; only what a release lists can be read"
            )
        end = request.start_bytes + request.length_bytes
        if end > size_bytes:
            raise UserInputError(f"part {request.digest[:12]} has {size_bytes:,} bytes, asked for bytes up to {end:,}")

    def read(self, digest: str, start: int, length: int) -> bytes:
        """Read a range that `check_read` let through."""
        return self._federation.store.get(object_key(digest), start=start, length=length)

    def find_missing(self, request: pb.FindMissingRequest) -> pb.FindMissingResponse:
        """Say which parts are still wanted."""
        if len(request.parts) > MAX_PARTS_ASKED:
            raise UserInputError(f"FindMissing: {len(request.parts):,} parts, at most {MAX_PARTS_ASKED:,} at a time")
        missing = self._committer.find_missing([_part(part) for part in request.parts])
        return pb.FindMissingResponse(digests=[part.digest for part in missing])

    def begin_upload(self, message: pb.UploadPartRequest) -> PartUpload | None:
        """Start to take a part; None if it is there already."""
        if message.WhichOneof("content") != "header":
            raise UserInputError("UploadPart: expected the header first")
        part = _part(message.header)
        if part.size_bytes > self._max_part_bytes:
            raise UserInputError(
                f"part {part.digest[:12]} has {part.size_bytes:,} bytes, at most {self._max_part_bytes:,} are taken; "
                "cut the file into smaller parts"
            )
        if self._federation.objects.has(part.digest, part.size_bytes):
            return None
        return PartUpload(self._federation.store, part)

    def commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        """Take a contribution."""
        return self._committer.commit(request.manifest_json)

    def verdict(self, request: pb.GetVerdictRequest) -> pb.GetVerdictResponse:
        """Say what became of a contribution."""
        for max_age_s in (STATUS_AGE_S, 0.0):  # what was committed a moment ago needs a fresh look
            verdict = judge(self._rounds.state(request.round, max_age_s=max_age_s), request.contribution)
            if verdict is not None:
                return pb.GetVerdictResponse(verdict=verdict)
        raise ObjectNotFoundError(f"round {request.round} has received no contribution {request.contribution!r}")

    def _read_status(self) -> pb.GetStatusResponse:
        settings, standing = self._federation.settings, self._rounds.standing()
        latest = standing.latest
        return pb.GetStatusResponse(
            protocol_version=PROTOCOL_VERSION,
            layout_version=LAYOUT_VERSION,
            federation_digest=settings.federation,
            federation_name=settings.name,
            method=settings.method,
            rules=pb.RoundRules(quorum=settings.rules.quorum, deadline_s=settings.rules.deadline_s),
            max_contribution_bytes=settings.max_contribution_bytes,
            latest=pb.Release(number=latest.release, model_digest=latest.model_digest, manifest_digest=latest.manifest),
            round=describe(settings.rules, standing, now_s=time.time()),
            poll_after_ms=round(self._pace() * 1000),
        )

    def _pace(self) -> float:
        now_s = time.monotonic()
        calls_per_s = self._num_calls / max(now_s - self._counted_at_s, STATUS_AGE_S)
        self._poll_s = pace(self._poll_s, calls_per_s=calls_per_s)
        self._num_calls, self._counted_at_s = 0, now_s
        return self._poll_s

    def _read_parts_of(self, release: int) -> Mapping[str, int]:
        manifest = self._federation.release(release)
        return {part.digest: part.size_bytes for blob in manifest.files.values() for part in blob.parts}


def summarize(data: bytes) -> pb.ReleaseSummary:
    """Put a release's manifest into the words of the history: without its parts."""
    manifest = decode(ReleaseManifest, data, what="release manifest")
    release = pb.Release(number=manifest.release, model_digest=manifest.model_digest, manifest_digest=sha256(data))
    contributions = [
        pb.FusedContribution(
            contributor=fused.contributor,
            num_examples=fused.num_examples,
            weight=fused.weight,
            contribution=fused.contribution,
        )
        for fused in manifest.contributions
    ]
    return pb.ReleaseSummary(
        release=release,
        parent=manifest.parent,
        round=manifest.round,
        method=manifest.method,
        num_contributions=len(contributions),
        created_at_s=manifest.created_at_s,
        contributions=contributions,
    )


def _part(message: pb.Part) -> Part:
    try:
        return Part(digest=message.digest, size_bytes=message.size_bytes)
    except ValidationError:
        raise UserInputError(f"{message.digest[:80]!r} is no digest: expected 64 lower-case hex digits") from None
