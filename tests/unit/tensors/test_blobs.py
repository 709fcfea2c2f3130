from __future__ import annotations

import pytest

from coldfuse.core.blob import Blob
from coldfuse.core.serialization import sha256
from coldfuse.errors import CodecError
from coldfuse.tensors.blobs import BlobReader, put_part

PIECES = (b"abc", b"", b"defgh", b"i", b"")
WHOLE = b"".join(PIECES)


@pytest.fixture
def reader() -> BlobReader:
    objects: dict[str, bytes] = {}
    parts = tuple(put_part(piece, lambda digest, data: objects.update({digest: bytes(data)})) for piece in PIECES)

    def read(digest: str, buffer: memoryview, start: int) -> None:
        assert start + len(buffer) <= len(objects[digest])
        buffer[:] = objects[digest][start : start + len(buffer)]

    return BlobReader(Blob(parts=parts), read)


def test_every_range_is_read_across_parts(reader: BlobReader) -> None:
    for start in range(len(WHOLE) + 1):
        for end in range(start, len(WHOLE) + 1):
            assert reader.read(start, end - start) == WHOLE[start:end]


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 10), (9, 1), (10, 0)])
def test_ranges_outside_the_file_are_refused(reader: BlobReader, start: int, length: int) -> None:
    with pytest.raises(CodecError, match="lies outside a file of 9 bytes"):
        reader.read(start, length)


def test_a_file_without_parts_has_no_bytes() -> None:
    empty = BlobReader(Blob(parts=()), lambda *_: pytest.fail("nothing to read"))
    assert empty.read(0, 0) == b""
    with pytest.raises(CodecError, match="outside a file of 0 bytes"):
        empty.read(0, 1)


def test_a_part_is_named_by_its_bytes() -> None:
    stored: list[tuple[str, bytes]] = []
    part = put_part(bytearray(b"abc"), lambda digest, data: stored.append((digest, bytes(data))))
    assert (part.digest, part.size_bytes) == (sha256(b"abc"), 3)
    assert stored == [(sha256(b"abc"), b"abc")]
