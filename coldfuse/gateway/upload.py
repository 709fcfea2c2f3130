"""The parts of a file on their way into a store: which are sent, and how one is taken."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import accumulate

from coldfuse.core.blob import Blob, Part
from coldfuse.errors import CodecError, DigestMismatchError, StorageError
from coldfuse.gateway.answers import UploadReport
from coldfuse.gateway.base import OnProgress
from coldfuse.registry.objects import object_key
from coldfuse.storage.base import ObjectStore, ObjectWriter

OnSent = Callable[[int], None]
"""on_sent(done_bytes): so many bytes of the part have left."""

OnStored = Callable[[Part, bool], None]
"""on_stored(part, is_new): the part is durable; False: somebody had sent the same bytes."""

SendPart = Callable[[Part, int, OnSent], int]
"""send(part, start, on_sent): bring the part at byte `start` of the file; return how many bytes were taken."""


class PartUpload:
    """Writes chunks as they come; the object exists once the declared length and digest have been seen, or never.

    Chunks are written by one thread at a time, in order; `abort` may come from another thread at any time.
    """

    def __init__(self, store: ObjectStore, part: Part, *, on_stored: OnStored | None = None) -> None:
        """Start to take a part.

        Args:
            store: Where it goes.
            part: Its declared digest and size.
            on_stored: Is told once these very bytes are durable, and whether the store did not have them before.
        """
        self._part = part
        self._on_stored = on_stored
        self._writer: ObjectWriter = store.open_writer(object_key(part.digest))
        self._sha256 = hashlib.sha256()
        self._received_bytes = 0
        self._lock = threading.Lock()

    def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes."""
        with self._lock:
            self._received_bytes += len(chunk)
            if self._received_bytes > self._part.size_bytes:
                raise CodecError(f"{self._name} was declared with {self._part.size_bytes:,} bytes, but more came")
            self._sha256.update(chunk)
            self._writer.write(chunk)

    def finish(self) -> int:
        """Check length and digest, make the object durable, and return how many bytes came."""
        with self._lock:
            if self._received_bytes != self._part.size_bytes:
                raise CodecError(
                    f"{self._name} was declared with {self._part.size_bytes:,} bytes, but the stream ended after "
                    f"{self._received_bytes:,}; send it again"
                )
            if (digest := self._sha256.hexdigest()) != self._part.digest:
                raise DigestMismatchError(
                    f"{self._name}: the bytes that came have SHA-256 {digest}; "
                    "has the file changed since it was digested?"
                )
            is_new = self._writer.commit()
            if self._on_stored is not None:
                self._on_stored(self._part, is_new)
            return self._received_bytes

    def abort(self) -> None:
        """Drop what came, unless it is finished; what a store that is away does not drop is collected as garbage."""
        with self._lock, suppress(StorageError):  # whoever aborts has something more important to say
            self._writer.abort()

    @property
    def _name(self) -> str:
        return f"part {self._part.digest[:12]}"


def send_parts(
    blob: Blob,
    missing: Sequence[Part],
    send: SendPart,
    *,
    parallel: int,
    progress: OnProgress | None,
    stop: Callable[[], None],
) -> UploadReport:
    """Send the missing parts of a file, several at a time; the first failure ends it.

    Args:
        blob: All parts of the file.
        missing: Those to send, each once.
        send: Sends one part.
        parallel: How many are sent at a time.
        progress: Is called after every chunk; parts that are not missing count as done.
        stop: Calls off what is still being sent, once one part has failed or all are there.
    """
    starts = dict(zip(blob.parts, accumulate((part.size_bytes for part in blob.parts), initial=0), strict=False))
    done_bytes = {part: part.size_bytes for part in starts} | dict.fromkeys(missing, 0)
    total_bytes, lock = sum(part.size_bytes for part in starts), threading.Lock()

    def send_one(part: Part) -> int:
        def on_sent(num_bytes: int) -> None:
            with lock:
                done_bytes[part] = num_bytes
                if progress is not None:
                    progress(sum(done_bytes.values()), total_bytes)

        sent_bytes = send(part, starts[part], on_sent)
        on_sent(part.size_bytes)
        return sent_bytes

    pool = ThreadPoolExecutor(parallel, "upload")
    try:
        futures = [pool.submit(send_one, part) for part in missing]
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
        sent_bytes = sum(future.result() for future in futures)
    finally:
        stop()
        pool.shutdown(cancel_futures=True)
    return UploadReport(sent_bytes=sent_bytes, num_sent=len(missing), num_skipped=len(starts) - len(missing))
