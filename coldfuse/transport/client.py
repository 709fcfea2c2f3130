"""The other end of a gateway: what contributors and consumers call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, encode
from coldfuse.errors import CodecError, TransportError
from coldfuse.tensors.blobs import ReadRange
from coldfuse.transport.address import parse_address
from coldfuse.transport.answers import (
    ContributionVerdict,
    ReleaseSummary,
    Status,
    read_status,
    read_summary,
    read_verdict,
)
from coldfuse.transport.channel import MAX_MANIFEST_BYTES, open_channel
from coldfuse.transport.frames import UPLOAD_METHOD, serialize
from coldfuse.transport.patience import CALL_S, Cancellation, Moved, Patience, RunningCall, patiently, stream_deadline_s
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.pb import gateway_pb2_grpc
from coldfuse.transport.sender import Messages, Progress, Sender, UploadReport
from coldfuse.trust.tls import TlsFiles

Q = TypeVar("Q")
T = TypeVar("T")

NUM_PARTS_ASKED = 4096

PARALLEL = 4
"""Streams that share a link, unless the caller says otherwise: so many parts are sent or brought at once."""

PAGE_SIZE = 20
"""Releases asked for at a time: the gateway reads a manifest for each, which takes a while on S3."""


class GatewayClient:
    """Talks to one gateway. Threads may share it; close it, or use it as a context manager.

    Every call has a deadline and is tried again while the gateway is out of reach, until nothing has moved for
    `patience_s`; all may be repeated without harm. Errors are those of `errors.py`, with the gateway's sentence.
    """

    def __init__(
        self, address: str, *, tls: TlsFiles | None = None, insecure: bool = False, patience_s: float = 120.0
    ) -> None:
        """Connect with the first call.

        Args:
            address: `host:port`.
            tls: Certificates. Without them loopback is spoken to in plain text, and other hosts with TLS, which the
                authorities that this machine knows must vouch for.
            insecure: Speak plain text to other hosts, too.
            patience_s: How long to try while the gateway is out of reach.
        """
        self._address = parse_address(address)
        self._patience_s = patience_s
        self._cancellation = Cancellation()
        self._channel = open_channel(self._address, tls=tls, insecure=insecure)
        self._stub = gateway_pb2_grpc.GatewayStub(self._channel)
        self._upload_part = self._channel.stream_unary(
            UPLOAD_METHOD, request_serializer=serialize, response_deserializer=pb.UploadPartResponse.FromString
        )

    @property
    def address(self) -> str:
        """Where the gateway listens."""
        return self._address.text

    def status(self) -> Status:
        """Say where the federation stands."""
        return read_status(self._call(self._stub.GetStatus, pb.GetStatusRequest()))

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return the manifest of a release, by number or channel."""
        request = pb.GetReleaseRequest(number=which) if isinstance(which, int) else pb.GetReleaseRequest(channel=which)
        answer = self._call(self._stub.GetRelease, request)
        what = f"release {which} of {self.address}"
        return decode(ReleaseManifest, answer.manifest_json, what=what, digest=answer.manifest_digest)

    def releases(self) -> Iterator[ReleaseSummary]:
        """List the history, newest first, page by page as it is read."""
        request = pb.ListReleasesRequest(page_size=PAGE_SIZE)
        while True:
            page = self._call(self._stub.ListReleases, request)
            yield from map(read_summary, page.releases)
            if not page.HasField("next_before"):
                return
            request = pb.ListReleasesRequest(before=page.next_before, page_size=PAGE_SIZE)

    def read_into(
        self, release: int, digest: str, buffer: memoryview, start: int = 0, *, parallel: int = PARALLEL
    ) -> None:
        """Fill the buffer from `start` of a release's part, resuming where it is cut off; the caller checks digests.

        `parallel` is how many such calls share the link, for the deadline.
        """
        deadline_s = stream_deadline_s(len(buffer), parallel=parallel)
        done, patience = 0, Patience(self._patience_s, stream_s=deadline_s)

        def read_rest() -> None:
            nonlocal done
            length = len(buffer) - done
            request = pb.ReadObjectRequest(
                release=release, digest=digest, start_bytes=start + done, length_bytes=length
            )
            for message in self._stub.ReadObject(request, timeout=stream_deadline_s(length, parallel=parallel)):
                if len(message.chunk) > len(buffer) - done:
                    raise TransportError(f"{self.address}: sent more of part {digest[:12]} than was asked for")
                buffer[done : done + len(message.chunk)] = message.chunk
                done += len(message.chunk)
                patience.renew()

        patiently(read_rest, self._address, patience=patience, cancellation=self._cancellation)
        if done != len(buffer):
            raise TransportError(f"{self.address}: sent {done:,} of {len(buffer):,} bytes of part {digest[:12]}")

    def missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that the gateway has not got, each once, in their order."""
        distinct = list(dict.fromkeys(parts))
        wanted: set[str] = set()
        for first in range(0, len(distinct), NUM_PARTS_ASKED):
            asked = [pb.Part(**part.model_dump()) for part in distinct[first : first + NUM_PARTS_ASKED]]
            wanted.update(self._call(self._stub.FindMissing, pb.FindMissingRequest(parts=asked)).digests)
        return [part for part in distinct if part.digest in wanted]

    def upload(
        self, blob: Blob, read_range: ReadRange, *, progress: Progress | None = None, parallel: int = PARALLEL
    ) -> UploadReport:
        """Send what the gateway has not got of a file, several parts at a time.

        Called again after any failure, on any machine, it goes on with the parts that are missing then. `read_range` is
        called by several threads at once.
        """
        missing = self.missing(blob.parts)
        cancellation, moved = Cancellation(), Moved()
        sender = Sender(blob, read_range, progress=progress, cancellation=cancellation)

        def send_part(part: Part, messages: Messages) -> int:
            deadline_s = stream_deadline_s(part.size_bytes, parallel=parallel)
            patience = Patience(self._patience_s, stream_s=deadline_s, moved=moved)

            def start() -> RunningCall[pb.UploadPartResponse]:
                return self._upload_part.future(messages(patience.renew), timeout=deadline_s)

            answer = patiently(
                lambda: cancellation.run(start), self._address, patience=patience, cancellation=cancellation
            )
            return answer.received_bytes

        return sender.send(missing, send_part, parallel=parallel)

    def commit(self, manifest: ContributionManifest) -> ContributionVerdict:
        """Hand in a contribution whose parts were uploaded.

        Once this returned, the contribution is durable and gets exactly one verdict; committing it again returns that.
        """
        data = encode(manifest)
        if len(data) > MAX_MANIFEST_BYTES:
            raise CodecError(f"the manifest has {len(data):,} bytes, at most {MAX_MANIFEST_BYTES:,} are taken")
        answer = self._call(self._stub.Commit, pb.CommitRequest(manifest_json=data))
        return read_verdict(answer.contribution, answer.verdict)

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        """Say what became of a contribution."""
        request = pb.GetVerdictRequest(round=round_number, contribution=contribution)
        return read_verdict(contribution, self._call(self._stub.GetVerdict, request).verdict)

    def close(self) -> None:
        """End the connection; calls in other threads fail."""
        self._cancellation.cancel()
        self._channel.close()

    def __enter__(self) -> GatewayClient:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _call(self, method: Callable[..., T], request: object) -> T:
        patience = Patience(self._patience_s, stream_s=CALL_S)
        return patiently(
            lambda: method(request, timeout=CALL_S), self._address, patience=patience, cancellation=self._cancellation
        )
