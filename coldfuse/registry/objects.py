"""Objects by digest, on any store."""

from __future__ import annotations

from collections.abc import Sequence

from coldfuse.core.blob import Blob
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, V, decode, encode, sha256
from coldfuse.core.value import Value
from coldfuse.registry.damage import set_aside
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.checks import checks_key, checks_of, join_lists, name_checks
from coldfuse.tensors.rereading import get_verified
from coldfuse.tensors.verified import VerifiedReader


def object_key(digest: str) -> str:
    """Return the key of an object."""
    return f"objects/{digest}"


class Objects:
    """Immutable bytes named by their SHA-256. Putting what is there already, and sound, is success."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @property
    def store(self) -> ObjectStore:
        """The store that they lie in."""
        return self._store

    def put(self, digest: str, data: bytes | memoryview) -> bool:
        """Store bytes under their digest, which the caller has computed; False if they were there.

        What is there is read: a damaged object is moved out of the way, and these bytes take its place.
        """
        if self._store.put_if_absent(object_key(digest), data):
            return True
        if set_aside(self._store, digest) is None:
            return False
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
            DamagedObjectError: The object is missing or altered, also when it is read again.
            CodecError: The object holds another kind of value.
        """
        return decode(kind, self.get(digest), what=f"{kind.__name__} {digest[:12]}")

    def get(self, digest: str) -> bytes:
        """Read a small object whole, verified; raises `DamagedObjectError` as `get_value`."""
        return get_verified(
            self._store, object_key(digest), lambda data: sha256(data) == digest, length=MAX_MANIFEST_BYTES + 1
        )

    def read_into(self, digest: str, buffer: memoryview, start: int) -> None:
        """Fill the buffer from `start` of an object; the caller checks digests."""
        self._store.read_into(object_key(digest), buffer, start=start)

    def open(self, blob: Blob, root: str | None = None, *, what: str = "a file") -> VerifiedReader:
        """Return a reader of a file that lies in parts, which verifies what it reads.

        Args:
            blob: The file's parts.
            root: Name of the file's checks; None: every part that is touched is read whole.
            what: The file's name, for people.
        """
        return VerifiedReader(self._store, blob, checks_of(blob, root), what=what)

    def put_checks(self, lists: Sequence[bytes]) -> str | None:
        """Store the checks of a file, given each part's list; return their name, None where none are needed."""
        joined = join_lists(lists)
        if joined is None:
            return None
        root, data = joined
        self._store.put_if_absent(checks_key(root), data)
        return root

    def has(self, digest: str, size_bytes: int) -> bool:
        """Tell whether an object is there in full; one of another size counts as missing."""
        info = self._store.head(object_key(digest))
        return info is not None and info.size_bytes == size_bytes

    def is_there(self, digest: str) -> bool:
        """Tell whether an object is there, of whatever size."""
        return self._store.head(object_key(digest)) is not None


class SeenObjects(Objects):
    """The objects of a store that is only looked at: what would be written is named, and nothing is written."""

    def put(self, digest: str, data: bytes | memoryview) -> bool:
        """Write nothing; False if the object is there."""
        return not self.has(digest, len(data))

    def put_checks(self, lists: Sequence[bytes]) -> str | None:
        """Return the name of the checks of a file, given each part's list; None where none are needed."""
        return name_checks(lists)
