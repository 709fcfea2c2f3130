"""Objects by digest, on any store."""

from __future__ import annotations

from coldfuse.core.blob import Blob
from coldfuse.core.serialization import V, decode, encode, sha256
from coldfuse.core.value import Value
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.blobs import BlobReader


def object_key(digest: str) -> str:
    """Return the key of an object."""
    return f"objects/{digest}"


class Objects:
    """Immutable bytes named by their SHA-256. Putting what is there already is success."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, digest: str, data: bytes | memoryview) -> bool:
        """Store bytes under their digest, which the caller has computed; False if they were there."""
        return self._store.put_if_absent(object_key(digest), data)

    def put_value(self, value: Value) -> str:
        """Store a value as canonical JSON, and return its digest."""
        data = encode(value)
        digest = sha256(data)
        self.put(digest, data)
        return digest

    def get_value(self, kind: type[V], digest: str) -> V:
        """Read a value.

        Raises:
            ObjectNotFoundError: There is no such object.
            DigestMismatchError: The object was altered.
            CodecError: The object holds another kind of value.
        """
        data = self._store.get(object_key(digest))
        return decode(kind, data, what=f"{kind.__name__} {digest[:12]}", digest=digest)

    def read_into(self, digest: str, buffer: memoryview, start: int) -> None:
        """Fill the buffer from `start` of an object; the caller checks digests."""
        self._store.read_into(object_key(digest), buffer, start=start)

    def open(self, blob: Blob) -> BlobReader:
        """Return a reader of a file that lies in parts."""
        return BlobReader(blob, self.read_into)

    def has(self, digest: str, size_bytes: int) -> bool:
        """Tell whether an object is there in full; one of another size counts as missing."""
        info = self._store.head(object_key(digest))
        return info is not None and info.size_bytes == size_bytes
