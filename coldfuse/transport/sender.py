"""Sending the parts of a file over a channel, each tried again until nothing moves any more."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import grpc

from coldfuse.core.blob import Part
from coldfuse.errors import ColdfuseError
from coldfuse.gateway.upload import OnSent
from coldfuse.tensors.blobs import ReadRange
from coldfuse.transport.frames import FrameBuffer, NextSize, method_path
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.peer import Peer
from coldfuse.transport.retry import (
    Cancellation,
    Progress,
    StopWhenStalled,
    call_with_retries,
    stream_deadline_s,
)
from coldfuse.transport.signing import Metadata, RequestSigner
from coldfuse.transport.wire import write_part

_PATH = method_path("UploadPart")


class PartSender:
    """Sends parts of one file; threads share it, one a part."""

    def __init__(
        self,
        channel: grpc.Channel,
        signer: RequestSigner,
        read_range: ReadRange,
        *,
        peer: Peer,
        retry_s: float,
        parallel: int,
    ) -> None:
        """Take what is sent and where to.

        Args:
            channel: Leads to the gateway.
            signer: Signs what is sent: a part's bytes by the digest in its header.
            read_range: Reads the file.
            peer: The gateway.
            retry_s: Seconds without progress in any part after which none is tried again.
            parallel: How many parts share the link.
        """
        self._start = channel.stream_unary(_PATH, None, pb.UploadPartResponse.FromString).future
        self._signer = signer
        self._read_range = read_range
        self._peer = peer
        self._retry_s = retry_s
        self._parallel = parallel
        self._cancellation = Cancellation()
        self._progress = Progress()
        self._read_error: BaseException | None = None

    def send(self, part: Part, start: int, on_sent: OnSent) -> int:
        """Send the part at byte `start` of the file, and return how many bytes the gateway took."""
        deadline_s = stream_deadline_s(part.size_bytes, parallel=self._parallel)
        stop = StopWhenStalled(self._retry_s, stream_s=deadline_s, progress=self._progress)

        def on_chunk(done_bytes: int) -> None:
            stop.count_progress()
            on_sent(done_bytes)

        header = pb.UploadPartRequest(header=write_part(part)).SerializeToString()

        def send(headers: Metadata) -> pb.UploadPartResponse:
            messages = chain([header], self._messages(part, start, on_chunk))
            answered: pb.UploadPartResponse = self._cancellation.run(
                lambda: self._start(messages, timeout=deadline_s, metadata=headers)
            )
            return answered

        def call() -> pb.UploadPartResponse:
            return self._signer.call(_PATH, header, send)

        try:
            answer = call_with_retries(call, self._peer, stop=stop, cancellation=self._cancellation)
        except ColdfuseError:
            if self._read_error is not None:  # the gateway's complaint is only what follows from it
                raise self._read_error from None
            raise
        return answer.received_bytes

    def stop(self) -> None:
        """Call off what is being sent."""
        self._cancellation.cancel()

    def _messages(self, part: Part, start: int, on_chunk: OnSent) -> Iterator[bytes]:
        buffer, size, done = FrameBuffer(), NextSize(), 0
        while done < part.size_bytes:
            length = min(size.num_bytes, part.size_bytes - done)
            frame = self._read(buffer, start + done, length)
            if frame is None or self._cancellation.event.is_set():
                return
            with size.measured():
                yield frame
            done += length
            on_chunk(done)

    def _read(self, buffer: FrameBuffer, start: int, length: int) -> bytes | None:
        """Read; None where that failed, as gRPC's thread would only log what is raised there, and try again."""
        try:
            return buffer.fill(self._read_range, start, length)
        except BaseException as error:  # noqa: BLE001 - raised by `send`, in the thread that waits for the part
            self._read_error = error
            return None
