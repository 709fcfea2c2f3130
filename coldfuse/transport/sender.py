"""Sending the parts of a file that a gateway has not got."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from coldfuse.core.blob import Blob, Part
from coldfuse.errors import ColdfuseError
from coldfuse.tensors.blobs import ReadRange
from coldfuse.transport.channel import MAX_CHUNK_BYTES
from coldfuse.transport.frames import Frame, FrameBuffer
from coldfuse.transport.patience import Cancellation
from coldfuse.transport.pb import gateway_pb2 as pb

Progress = Callable[[int, int], None]
"""progress(done_bytes, total_bytes): called from several threads, never from two at once."""

Messages = Callable[[Callable[[], None]], Iterator[Frame]]
"""messages(on_progress): begins one try at a part, and says when a chunk has left."""

SendPart = Callable[[Part, Messages], int]
"""send(part, messages): try until the gateway has the part; return how many bytes it took."""


@dataclass(frozen=True, kw_only=True)
class UploadReport:
    """What an upload did."""

    sent_bytes: int
    """Bytes that the gateway took; tries that were cut off do not count."""
    num_sent: int
    """Parts that were missing."""
    num_skipped: int
    """Parts that were there already."""


class Sender:
    """Reads one file's parts and hands them to a gateway, several at a time; the first failure ends it."""

    def __init__(
        self, blob: Blob, read_range: ReadRange, *, progress: Progress | None, cancellation: Cancellation
    ) -> None:
        starts = accumulate((part.size_bytes for part in blob.parts), initial=0)
        self._starts = dict(zip(blob.parts, starts, strict=False))  # a part that occurs twice is sent once
        self._read_range = read_range
        self._progress = progress
        self._cancellation = cancellation
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._done_bytes = {part: part.size_bytes for part in self._starts}
        self._total_bytes = sum(self._done_bytes.values())

    def send(self, missing: Sequence[Part], send_part: SendPart, *, parallel: int) -> UploadReport:
        """Send the missing parts and leave the others."""
        self._done_bytes |= dict.fromkeys(missing, 0)
        pool = ThreadPoolExecutor(parallel, "upload")
        try:
            futures = [pool.submit(self._send, part, send_part) for part in missing]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            sent_bytes = sum(future.result() for future in futures)
        finally:
            self._cancellation.cancel()
            pool.shutdown(cancel_futures=True)
        return UploadReport(sent_bytes=sent_bytes, num_sent=len(missing), num_skipped=len(self._starts) - len(missing))

    def _send(self, part: Part, send_part: SendPart) -> int:
        try:
            sent_bytes = send_part(part, partial(self._messages, part))
        except ColdfuseError:
            if self._failure is not None:  # the gateway's complaint is only what follows from it
                raise self._failure from None
            raise
        self._report(part, part.size_bytes)
        return sent_bytes

    def _messages(self, part: Part, on_progress: Callable[[], None]) -> Iterator[Frame]:
        yield pb.UploadPartRequest(header=pb.Part(digest=part.digest, size_bytes=part.size_bytes))
        buffer = FrameBuffer()
        for offset in range(0, part.size_bytes, MAX_CHUNK_BYTES):
            length = min(MAX_CHUNK_BYTES, part.size_bytes - offset)
            frame = self._read(buffer, self._starts[part] + offset, length)
            if frame is None or self._cancellation.event.is_set():
                return
            yield frame
            on_progress()
            self._report(part, offset + length)

    def _read(self, buffer: FrameBuffer, start: int, length: int) -> bytes | None:
        """Read; None where that failed, as gRPC's thread would only log what is raised there, and try again."""
        try:
            return buffer.fill(self._read_range, start, length)
        except BaseException as error:  # noqa: BLE001 - raised by `_send`, in the thread that waits for the part
            self._failure = error
            return None

    def _report(self, part: Part, done_bytes: int) -> None:
        with self._lock:
            self._done_bytes[part] = done_bytes
            if self._progress is not None:
                self._progress(sum(self._done_bytes.values()), self._total_bytes)
