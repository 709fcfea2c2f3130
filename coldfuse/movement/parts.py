"""Files of a release, and of what was contributed to it, read part by part through whoever hands out parts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coldfuse.core.blob import Blob, Part
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import sha256
from coldfuse.errors import DigestMismatchError
from coldfuse.tensors.blobs import BlobReader
from coldfuse.tensors.checkpoint import Checkpoint, Place, open_all
from coldfuse.tensors.files import BlobFile, ByteRange
from coldfuse.tensors.folders import ReleaseFolder

ReadPart = Callable[[str, memoryview], None]
"""read(digest, buffer): fill the buffer with a whole part."""

HELD_BYTES = 256 << 20
"""Number of bytes of parts that are held, unless the caller says otherwise."""

Segment = tuple[str, int, int]
"""A part's digest, and the first byte and the number of bytes of it."""


class Parts:
    """Parts that were read and verified, the last ones of them held up to a budget. One thread uses it."""

    def __init__(self, read: ReadPart, *, most_bytes: int = HELD_BYTES) -> None:
        """Hold nothing yet.

        Args:
            read: Reads a part.
            most_bytes: Number of bytes that are held; one part is, whatever its size.
        """
        self._read, self._most = read, most_bytes
        self._held: OrderedDict[str, memoryview] = OrderedDict()
        self.read_bytes = 0
        """Number of bytes that were asked for."""

    def get(self, part: Part, what: str) -> memoryview:
        """Return a part's bytes.

        Raises:
            DigestMismatchError: It is not what it is named by.
        """
        if part.digest in self._held:
            self._held.move_to_end(part.digest)
            return self._held[part.digest]
        while self._held and sum(map(len, self._held.values())) + part.size_bytes > self._most:
            self._held.popitem(last=False)
        data = memoryview(bytearray(part.size_bytes))
        self._read(part.digest, data)
        if (found := sha256(data)) != part.digest:
            raise DigestMismatchError(f"{what}: part {part.digest[:12]} arrived with SHA-256 {found[:12]}; try again")
        self.read_bytes += part.size_bytes
        self._held[part.digest] = data
        return data


@dataclass(frozen=True)
class PartsFile:
    """A file that lies as parts, which are read whole and verified."""

    blob: Blob
    """The parts, in the order of the file."""
    name: str
    """What the file is, for people."""
    parts: Parts = field(compare=False, repr=False)

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return self.blob.size_bytes

    @property
    def is_remote(self) -> bool:
        """True: every read of a part is a request."""
        return True

    def open(self) -> _OpenParts:
        """Return what reads it."""
        return _OpenParts(self)

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of the file's bytes."""
        return ByteRange(self, start, length)

    def __str__(self) -> str:
        return self.name


class _OpenParts:
    """Reads ranges of a file in parts."""

    def __init__(self, file: PartsFile) -> None:
        self._file = file
        self._by_digest = {part.digest: part for part in file.blob.parts}
        self._reader = BlobReader(file.blob, self._read)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the whole buffer with the file's bytes from `start`; raises as `Parts.get`."""
        self._reader.read_into(buffer, start)

    def _read(self, digest: str, buffer: memoryview, start: int) -> None:
        data = self._file.parts.get(self._by_digest[digest], self._file.name)
        buffer[:] = data[start : start + len(buffer)]


def open_parts(release: ReleaseManifest, parts: Parts) -> Checkpoint:
    """Read the headers of a release's safetensors files.

    Args:
        release: The release's manifest.
        parts: Reads its parts.
    """
    blobs = {path: PartsFile(blob, f"release {release.release}, {path}", parts) for path, blob in release.files.items()}
    files = open_all({path: blob for path, blob in blobs.items() if path.endswith(".safetensors")})
    folder = ReleaseFolder(f"release {release.release}", blobs)
    return Checkpoint(folder, files, tuple(blobs.keys() - files.keys()), known_digest=release.model_digest)


def segments(place: Place, first: int, num_bytes: int) -> tuple[Segment, ...] | None:
    """Return which parts hold some of a tensor's bytes; None of a file whose parts have no names.

    Args:
        place: Where the tensor lies.
        first: Index of the first byte in the tensor.
        num_bytes: Number of bytes.
    """
    file, entry = place
    if not isinstance(file.file, PartsFile | BlobFile):
        return None
    return tuple(_cut(file.file.blob, entry.start + first, num_bytes))


def _cut(blob: Blob, start: int, num_bytes: int) -> Iterator[Segment]:
    begin, end = 0, start + num_bytes
    for part in blob.parts:
        first, last = max(start, begin), min(end, begin + part.size_bytes)
        if first < last:
            yield part.digest, first - begin, last - first
        begin += part.size_bytes
