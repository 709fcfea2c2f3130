"""One part on its way into the store."""

from __future__ import annotations

import hashlib
import threading

from coldfuse.core.blob import Part
from coldfuse.errors import CodecError, DigestMismatchError, UserInputError
from coldfuse.registry.objects import object_key
from coldfuse.storage.base import ObjectStore, ObjectWriter
from coldfuse.transport.channel import MAX_CHUNK_BYTES


class PartUpload:
    """Writes chunks as they come; the object exists once the declared length and digest have been seen, or never.

    Chunks are written by one thread at a time, in order; `abort` may come from another thread at any time.
    """

    def __init__(self, store: ObjectStore, part: Part) -> None:
        self._part = part
        self._writer: ObjectWriter = store.open_writer(object_key(part.digest))
        self._sha256 = hashlib.sha256()
        self._received_bytes = 0
        self._lock = threading.Lock()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        with self._lock:
            if not 0 < len(chunk) <= MAX_CHUNK_BYTES:
                raise UserInputError(f"a chunk has {len(chunk):,} bytes, expected 1 to {MAX_CHUNK_BYTES:,}")
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
            self._writer.commit()  # False: somebody sent the same bytes meanwhile
            return self._received_bytes

    def abort(self) -> None:
        """Drop what came, unless it is finished."""
        with self._lock:
            self._writer.abort()

    @property
    def _name(self) -> str:
        return f"part {self._part.digest[:12]}"
