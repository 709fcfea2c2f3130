"""The chunks of an upload, serialised by hand.

The bytes are those of `UploadPartRequest(chunk=...)`. Going through protobuf copies every chunk twice more than needed,
and at a gigabyte a second copies are what a node's processor does: this takes a fifth off the sender's time.
"""

from __future__ import annotations

from coldfuse.tensors.blobs import ReadRange
from coldfuse.transport.channel import MAX_CHUNK_BYTES
from coldfuse.transport.pb import gateway_pb2 as pb

UPLOAD_METHOD = "/{}/UploadPart".format(pb.DESCRIPTOR.services_by_name["Gateway"].full_name)

_LENGTH_DELIMITED = 2
_TAG = pb.UploadPartRequest.CHUNK_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_MAX_PREFIX_BYTES = 8

Frame = pb.UploadPartRequest | bytes
"""A message, or one that is serialised already."""


class FrameBuffer:
    """Room for one chunk at a time, used again for the next one."""

    def __init__(self) -> None:
        self._buffer = bytearray(_MAX_PREFIX_BYTES + MAX_CHUNK_BYTES)

    def fill(self, read_range: ReadRange, start: int, length: int) -> bytes:
        """Read a chunk of a file and return it as a serialised message."""
        prefix = bytes([_TAG]) + _varint(length)
        frame = memoryview(self._buffer)[: len(prefix) + length]
        frame[: len(prefix)] = prefix
        read_range(frame[len(prefix) :], start)
        return bytes(frame)


def serialize(frame: Frame) -> bytes:
    """Return what goes over the wire."""
    return frame if isinstance(frame, bytes) else frame.SerializeToString()


def _varint(value: int) -> bytes:
    """Write seven bits a byte, the lowest first; the top bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
