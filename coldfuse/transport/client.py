"""The other end of a gateway: what contributors and consumers call."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, require_bytes
from coldfuse.core.signature import Signature
from coldfuse.gateway import PARALLEL, ContributionVerdict, Gateway, OnProgress, ReleaseSummary, Status, UploadReport
from coldfuse.gateway.contributions import encode_manifest
from coldfuse.gateway.upload import send_parts
from coldfuse.tensors.blobs import ReadRange
from coldfuse.transport import wire
from coldfuse.transport.address import parse_address
from coldfuse.transport.channel import open_channel
from coldfuse.transport.frames import method_path
from coldfuse.transport.line import Line
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.peer import OnTrouble, find_peer
from coldfuse.transport.retry import CALL_S, Cancellation, StopWhenStalled, call_with_retries, stream_deadline_s
from coldfuse.transport.sender import PartSender
from coldfuse.transport.signing import Metadata, RequestSigner
from coldfuse.transport.status import SENDER_KEY, BrokenStreamError, UnknownCallError
from coldfuse.trust.identity import Identity
from coldfuse.trust.tls import TlsFiles

T = TypeVar("T", bound=Message)

PAGE_SIZE = 20
"""Releases asked for at a time: the gateway reads a manifest for each, which takes a while on S3."""


class GatewayClient(Gateway):
    """A `Gateway` on another machine. Threads may share it; close it, or use it as a context manager.

    Every call has a deadline and is tried again while the gateway is out of reach, until nothing has moved for
    `retry_s`. Errors are those of `errors.py`, with the gateway's sentence.
    """

    def __init__(  # noqa: PLR0913 - each is its caller's to say
        self,
        address: str,
        *,
        tls: TlsFiles | None = None,
        insecure: bool = False,
        retry_s: float = 120.0,
        on_trouble: OnTrouble | None = None,
        secret: str | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Connect with the first call.

        Args:
            address: `host:port`.
            tls: Certificates. Without them loopback is spoken to in plain text, and other hosts with TLS, which the
                authorities that this machine knows must vouch for.
            insecure: Speak plain text to other hosts, too.
            retry_s: How long to try while the gateway is out of reach.
            on_trouble: Called with each failure that is followed by another try, by any thread.
            secret: Shows the gateway that parts which came earlier were this client's own, so that they are not sent
                again; any text. None: a new one, so that the next client begins anew.
            identity: As whom requests are signed; None: as nobody, where the federation has no root, or is open and is
                only read.

        Raises:
            UserInputError: The address is none, the certificates cannot be used, or a proxy would get everything in
                plain text.
        """
        self._retry_s = retry_s
        sender = hashlib.sha256((secret or secrets.token_hex()).encode()).hexdigest()
        self._calls = RequestSigner(identity, ((SENDER_KEY, sender),))
        self._streams = RequestSigner(identity, ((SENDER_KEY, sender),))  # they may end at another gateway
        self._cancellation = Cancellation()
        self._peer = find_peer(parse_address(address), tls=tls, insecure=insecure, on_trouble=on_trouble)
        self._line = Line(lambda: open_channel(self._peer, patience_s=retry_s))
        self._channel = open_channel(self._peer, patience_s=retry_s)

    @property
    def address(self) -> str:
        """Where the gateway listens."""
        return self._peer.text

    def status(self) -> Status:
        """Say where the federation stands."""
        return wire.read_status(self._call(pb.GetStatusResponse, pb.GetStatusRequest()))

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return the manifest of a release, by number or channel."""
        return decode(ReleaseManifest, self.release_bytes(which), what=f"release {which} of {self.address}")

    def release_bytes(self, which: int | str = "latest") -> bytes:
        """Return the manifest of a release as it was written, by number or channel."""
        answer = self._call(pb.GetReleaseResponse, wire.write_which(which))
        data: bytes = answer.manifest_json
        require_bytes(data, f"release {which} of {self.address}", answer.manifest_digest)
        return data

    def releases(self, *, before: int | None = None) -> Iterator[ReleaseSummary]:
        """List the history, newest first, page by page as it is read."""
        while True:
            request = pb.ListReleasesRequest(before=before, page_size=PAGE_SIZE)
            page, before = wire.read_page(self._call(pb.ListReleasesResponse, request), before=before)
            yield from page
            if before is None:
                return

    def read_into(
        self, release: int, digest: str, buffer: memoryview, start: int = 0, *, parallel: int = PARALLEL
    ) -> None:
        """Fill the buffer from `start` of a release's part, resuming where it is cut off; the caller checks digests.

        `parallel` is how many such calls share the link, for the deadline.
        """
        wire.require_number(release)  # a manifest may claim any
        done, deadline_s = 0, stream_deadline_s(len(buffer), parallel=parallel)
        path = method_path("ReadObject")
        stop = StopWhenStalled(self._retry_s, stream_s=deadline_s)

        def take(messages: Iterable[pb.ReadObjectResponse]) -> None:
            nonlocal done
            for message in messages:
                if len(message.chunk) > len(buffer) - done:
                    raise BrokenStreamError(f"{self.address}: sent more of part {digest[:12]} than was asked for")
                buffer[done : done + len(message.chunk)] = message.chunk
                done += len(message.chunk)
                if message.chunk:  # a stream of nothing is no progress
                    stop.count_progress()

        def read_rest() -> None:
            length = len(buffer) - done
            request = pb.ReadObjectRequest(
                release=release, digest=digest, start_bytes=start + done, length_bytes=length
            )
            body, timeout_s = request.SerializeToString(), stream_deadline_s(length, parallel=parallel)
            read = self._channel.unary_stream(path, None, pb.ReadObjectResponse.FromString)
            self._streams.call(path, body, lambda headers: take(read(body, timeout=timeout_s, metadata=headers)))
            if done != len(buffer):
                raise BrokenStreamError(f"{self.address}: sent {done:,} of {len(buffer):,} bytes of part {digest[:12]}")

        call_with_retries(read_rest, self._peer, stop=stop, cancellation=self._cancellation)

    def find_missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that the gateway has not got, each once, in their order."""
        distinct = list(dict.fromkeys(parts))
        missing: set[str] = set()
        for first in range(0, len(distinct), wire.MAX_PARTS_ASKED):
            asked = map(wire.write_part, distinct[first : first + wire.MAX_PARTS_ASKED])
            missing.update(self._call(pb.FindMissingResponse, pb.FindMissingRequest(parts=asked)).digests)
        return [part for part in distinct if part.digest in missing]

    def upload(
        self, blob: Blob, read_range: ReadRange, *, progress: OnProgress | None = None, parallel: int = PARALLEL
    ) -> UploadReport:
        """Send what the gateway has not got of a file, several parts at a time."""
        sender = PartSender(
            self._channel, self._streams, read_range,
            peer=self._peer, retry_s=self._retry_s, parallel=parallel,
        )  # fmt: skip
        missing = self.find_missing(blob.parts)
        return send_parts(blob, missing, sender.send, parallel=parallel, progress=progress, stop=sender.stop)

    def commit(self, manifest: ContributionManifest, signature: Signature | None = None) -> ContributionVerdict:
        """Hand in a contribution whose parts were uploaded."""
        signed = None if signature is None else pb.Signature(keyid=signature.keyid, sig=signature.sig)
        request = pb.CommitRequest(manifest_json=encode_manifest(manifest), signature=signed)
        answer = self._call(pb.CommitResponse, request)
        return wire.read_verdict(answer.contribution, answer.verdict)

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        """Say what became of a contribution."""
        request = pb.GetVerdictRequest(round=round_number, contribution=contribution)
        return wire.read_verdict(contribution, self._call(pb.GetVerdictResponse, request).verdict)

    def verdict_entry(self, round_number: int, contribution: str) -> bytes | None:
        """Return the signed entry of the journal that says what became of a contribution, unverified."""
        request = pb.GetVerdictRequest(round=round_number, contribution=contribution, with_entry=True)
        answer = self._call(pb.GetVerdictResponse, request)
        return answer.entry if answer.HasField("entry") else None

    def read_signed(self, key: str) -> bytes | None:
        """Return what is signed and lies under a key of the store, unverified; older gateways have nothing."""
        try:
            answer = self._call(pb.GetSignedResponse, pb.GetSignedRequest(key=key))
        except UnknownCallError:
            return None
        return answer.content if answer.HasField("content") else None

    def join(self, statement: bytes) -> None:
        """Bind a key to a member's name."""
        self._call(pb.JoinResponse, pb.JoinRequest(statement=statement))

    def put_check(self, envelope: bytes) -> None:
        """Hand in a member's signed word on a release."""
        self._call(pb.PutCheckResponse, pb.PutCheckRequest(envelope=envelope))

    def put_score(self, envelope: bytes) -> None:
        """Hand in an evaluator's signed counts on a candidate."""
        self._call(pb.PutScoreResponse, pb.PutScoreRequest(envelope=envelope))

    def close(self) -> None:
        """End the connection; calls in other threads fail."""
        self._cancellation.cancel()
        self._channel.close()
        self._line.close()

    def _call(self, answer: type[T], request: Message) -> T:
        """Call the method of an answer; what is signed are the very bytes that are sent."""
        path = method_path(answer.__name__.removesuffix("Response"))
        body, read = request.SerializeToString(), answer.FromString
        stop = StopWhenStalled(self._retry_s, stream_s=CALL_S)

        def call(headers: Metadata) -> T:
            def call_over(channel: grpc.Channel) -> T:
                answered: T = channel.unary_unary(path, None, read)(body, timeout=CALL_S, metadata=headers)
                return answered

            return self._line.call(call_over)

        return call_with_retries(
            lambda: self._calls.call(path, body, call), self._peer, stop=stop, cancellation=self._cancellation
        )
