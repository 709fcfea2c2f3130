"""Frames made by hand are those that protobuf makes."""

import pytest

from coldfuse.transport.channel import MAX_CHUNK_BYTES
from coldfuse.transport.frames import UPLOAD_METHOD, FrameBuffer, serialize
from coldfuse.transport.pb import gateway_pb2 as pb


@pytest.mark.parametrize("length", [1, 127, 128, 16_383, 16_384, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES])
def test_a_frame_is_what_protobuf_writes(length):
    data, buffer = bytes(n % 251 for n in range(length + 5)), FrameBuffer()

    def read(view, start):
        view[:] = data[start : start + len(view)]

    for _ in range(2):  # the buffer is used again
        assert serialize(buffer.fill(read, 5, length)) == pb.UploadPartRequest(chunk=data[5:]).SerializeToString()


def test_a_message_is_serialised_as_ever():
    message = pb.UploadPartRequest(header=pb.Part(digest="0" * 64, size_bytes=3))
    assert serialize(message) == message.SerializeToString()


def test_the_method_is_the_services():
    assert UPLOAD_METHOD == "/coldfuse.v1.Gateway/UploadPart"
