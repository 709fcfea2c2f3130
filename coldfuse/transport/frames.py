"""An object's chunks on the wire, serialised and read by hand.

The bytes are those of `UploadPartRequest(chunk=...)` and `ReadObjectResponse(chunk=...)`. Going through protobuf copies
every chunk twice more than needed, and at a gigabyte a second copies are what a processor does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from coldfuse.errors import CodecError, UserInputError
from coldfuse.tensors.blobs import ReadRange
from coldfuse.transport.channel import MAX_CHUNK_BYTES
from coldfuse.transport.pb import gateway_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Gateway"].full_name

_LENGTH_DELIMITED = 2
_UPLOAD_TAG = pb.UploadPartRequest.CHUNK_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_DOWNLOAD_TAG = pb.ReadObjectResponse.CHUNK_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_MAX_PREFIX_BYTES = 8
_MAX_VARINT_BYTES = 4
"""What the length of a chunk takes at most."""

FIRST_CHUNK_BYTES = 32 << 10
"""A stream's first message, and its shortest."""

SWIFT_S, DRAGGING_S = 0.05, 1.0
"""Seconds in which a message leaves that may be longer next time, and after which it has to be shorter."""

M = TypeVar("M", bound=Message)


def method_path(name: str) -> str:
    """Return the path of a method of the gateway.

    >>> method_path("Commit")
    '/coldfuse.v1.Gateway/Commit'
    """
    return f"/{SERVICE}/{name}"


class NextSize:
    """How long the next message may be: short ones show a slow link's progress, long ones cost a fast one less."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.num_bytes = FIRST_CHUNK_BYTES
        """Size of the next message."""
        self._clock = clock

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Send a message in the block: where that is swift the next one is twice as long, where it drags half."""
        began_s = self._clock()
        yield
        took_s = self._clock() - began_s
        if took_s <= SWIFT_S:
            self.num_bytes = min(2 * self.num_bytes, MAX_CHUNK_BYTES)
        elif took_s >= DRAGGING_S:
            self.num_bytes = max(self.num_bytes // 2, FIRST_CHUNK_BYTES)


class FrameBuffer:
    """Room for one chunk at a time, used again for the next one."""

    def __init__(self) -> None:
        self._buffer = bytearray(_MAX_PREFIX_BYTES + MAX_CHUNK_BYTES)

    def fill(self, read_range: ReadRange, start: int, length: int) -> bytes:
        """Read a chunk of a file and return it as a serialised message."""
        prefix = bytes([_UPLOAD_TAG]) + _varint(length)
        frame = memoryview(self._buffer)[: len(prefix) + length]
        frame[: len(prefix)] = prefix
        read_range(frame[len(prefix) :], start)
        return bytes(frame)


def write_block(block: memoryview) -> bytes:
    """Return a piece of an object as a serialised answer."""
    return b"".join((bytes([_DOWNLOAD_TAG]), _varint(len(block)), block))


def read_frame(data: bytes) -> memoryview:
    """Return the chunk of an upload's message, without a copy where the message holds nothing else.

    Raises:
        CodecError: The bytes are no message of an upload.
        UserInputError: It is none that brings a chunk of a permitted size.
    """
    chunk = _read_plain(data)
    if chunk is None:  # written by another library, with fields in another order or more of them
        chunk = memoryview(parse(pb.UploadPartRequest, data).chunk)
    if not 0 < len(chunk) <= MAX_CHUNK_BYTES:
        raise UserInputError(f"a chunk has {len(chunk):,} bytes, expected 1 to {MAX_CHUNK_BYTES:,}")
    return chunk


def parse(kind: type[M], data: bytes) -> M:
    """Return a message. Raises `CodecError` if the bytes are none."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise CodecError(f"expected a {kind.DESCRIPTOR.name}, got bytes that are none ({error})") from error


def _read_plain(data: bytes) -> memoryview | None:
    if not data or data[0] != _UPLOAD_TAG:
        return None
    length, shift, place = 0, 0, 1
    while place < len(data) and place <= _MAX_VARINT_BYTES:
        byte = data[place]
        length, shift, place = length | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte <= 0x7F:
            return memoryview(data)[place:] if len(data) - place == length else None
    return None


def _varint(value: int) -> bytes:
    """Write seven bits a byte, the lowest first; the top bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
