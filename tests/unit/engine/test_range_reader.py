from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from coldfuse.engine.range_reader import RangeReader, ReadAhead
from coldfuse.errors import UserInputError
from coldfuse.tensors.files import ByteRange, LocalFile, ObjectFile
from coldfuse.tensors.stores import split_url

MIB = 1 << 20


@dataclass
class Server:
    """One object, and the requests for it."""

    data: bytes
    requests: list[tuple[int, int]] = field(default_factory=list)

    def fetch(self, _: ObjectFile, buffer: memoryview, start: int) -> None:
        assert start + len(buffer) <= len(self.data)
        self.requests.append((start, len(buffer)))
        buffer[:] = self.data[start : start + len(buffer)]

    def range(self, start: int, length: int) -> ByteRange:
        return ByteRange(ObjectFile("s3://b", "k", len(self.data), "etag"), start, length)


def read(ahead: ReadAhead, where: ByteRange, *, block: int) -> bytes:
    data = bytearray(where.length)
    for offset in range(0, where.length, block):
        ahead.read_into(where, memoryview(data)[offset : offset + block], offset)
    return bytes(data)


def test_blocks_of_a_range_come_from_few_requests_that_end_with_it() -> None:
    server = Server(os.urandom(12 * MIB))
    got = read(ReadAhead(4 * MIB, server.fetch), server.range(100, 10 * MIB), block=MIB // 4)
    assert got == server.data[100 : 100 + 10 * MIB]
    assert server.requests == [(100, 4 * MIB), (100 + 4 * MIB, 4 * MIB), (100 + 8 * MIB, 2 * MIB)]


def test_small_tensors_that_lie_together_are_one_request() -> None:
    server = Server(os.urandom(MIB // 2))
    ahead = ReadAhead(4 * MIB, server.fetch)
    for start in range(0, MIB // 2, 1024):
        assert read(ahead, server.range(start, 1024), block=512) == server.data[start : start + 1024]
        ahead.forget()
    assert server.requests == [(0, MIB // 2)]


def test_what_is_as_long_as_a_request_is_asked_for_as_it_is() -> None:
    server = Server(os.urandom(3 * MIB))
    assert read(ReadAhead(MIB, server.fetch), server.range(MIB, MIB), block=MIB) == server.data[MIB : 2 * MIB]
    assert server.requests == [(MIB, MIB)]


def test_nothing_large_is_held_until_the_next_tensor() -> None:
    server = Server(os.urandom(8 * MIB))
    ahead = ReadAhead(4 * MIB, server.fetch)
    read(ahead, server.range(0, 4 * MIB), block=MIB)
    ahead.forget()
    read(ahead, server.range(2 * MIB, MIB), block=MIB)
    assert server.requests == [(0, 4 * MIB), (2 * MIB, MIB)]


def test_without_read_ahead_every_block_is_a_request_of_its_own() -> None:
    server = Server(os.urandom(1024))
    read(ReadAhead(0, server.fetch), server.range(0, 1024), block=256)
    assert server.requests == [(start, 256) for start in range(0, 1024, 256)]


@pytest.mark.parametrize("url", ["s3://", "s3://bucket", "s3:///key"])
def test_a_url_without_bucket_or_key_is_refused(url: str) -> None:
    with pytest.raises(UserInputError, match="expected s3://BUCKET/PREFIX"):
        split_url(url)


def test_more_files_are_read_than_may_be_open(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 8)
    before, reader, out = len(os.listdir("/proc/self/fd")), RangeReader(max_open_files=2), np.empty(5 * 4, np.uint8)
    for offset in (0, 4):
        reader.read_rows([LocalFile(path).range(0, 8) for path in paths], [offset] * 5, out)
        assert out.tolist() == [number for number in range(5) for _ in range(4)]
        assert len(os.listdir("/proc/self/fd")) == before + 2
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before
