"""Frames made by hand are those that protobuf makes, and those are read."""

import pytest

from coldfuse.errors import CodecError, UserInputError
from coldfuse.transport.channel import MAX_CHUNK_BYTES
from coldfuse.transport.frames import (
    FIRST_CHUNK_BYTES,
    FrameBuffer,
    NextSize,
    method_path,
    read_frame,
    write_block,
)
from coldfuse.transport.pb import gateway_pb2 as pb


@pytest.mark.parametrize("length", [1, 127, 128, 16_383, 16_384, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES])
def test_a_frame_is_what_protobuf_writes(length):
    data, buffer = bytes(n % 251 for n in range(length + 5)), FrameBuffer()

    def read(view, start):
        view[:] = data[start : start + len(view)]

    for _ in range(2):  # the buffer is used again
        assert buffer.fill(read, 5, length) == pb.UploadPartRequest(chunk=data[5:]).SerializeToString()


def test_every_method_of_the_service_has_its_path():
    for name in pb.DESCRIPTOR.services_by_name["Gateway"].methods_by_name:
        assert method_path(name) == f"/coldfuse.v1.Gateway/{name}"


@pytest.mark.parametrize("length", [1, 127, 128, 16_384, MAX_CHUNK_BYTES])
def test_chunks_are_read_and_written_as_protobuf_does(length):
    data = bytes(n % 251 for n in range(length))
    assert bytes(read_frame(pb.UploadPartRequest(chunk=data).SerializeToString())) == data
    assert pb.ReadObjectResponse.FromString(write_block(memoryview(data))).chunk == data


def test_a_chunk_that_another_library_writes_is_read():
    twice = (
        pb.UploadPartRequest(chunk=b"first").SerializeToString() + pb.UploadPartRequest(chunk=b"x").SerializeToString()
    )
    unknown_field = pb.UploadPartRequest(chunk=b"x").SerializeToString() + b"\x78\x01"
    long_varint = b"\x12\x81\x00x"
    assert [bytes(read_frame(each)) for each in (twice, unknown_field, long_varint)] == [b"x"] * 3


@pytest.mark.parametrize(
    ("data", "error", "sentence"),
    [
        (b"", UserInputError, "a chunk has 0 bytes"),
        (b"\x12\x00", UserInputError, "a chunk has 0 bytes"),
        (pb.UploadPartRequest(header=pb.Part(size_bytes=3)).SerializeToString(), UserInputError, "a chunk has 0 bytes"),
        (
            pb.UploadPartRequest(chunk=bytes(MAX_CHUNK_BYTES + 1)).SerializeToString(),
            UserInputError,
            "expected 1 to 1,048",
        ),
        (b"\x12\x05abc", CodecError, "bytes that are none"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", CodecError, "bytes that are none"),
        (b"\x12", CodecError, "bytes that are none"),
    ],
)
def test_what_is_no_chunk_is_refused(data, error, sentence):
    with pytest.raises(error, match=sentence):
        read_frame(data)


def test_messages_grow_where_they_leave_fast_and_shrink_where_they_drag():
    now = [0.0]
    size = NextSize(clock=lambda: now[0])
    sizes = []
    for took_s in [0.01] * 6 + [0.5, 2.0, 2.0] + [9.0] * 9:
        with size.measured():
            now[0] += took_s
        sizes.append(size.num_bytes)
    assert sizes[:6] == [min(FIRST_CHUNK_BYTES << n, MAX_CHUNK_BYTES) for n in range(1, 7)]
    assert sizes[6:9] == [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES // 2, MAX_CHUNK_BYTES // 4]
    assert sizes[-1] == FIRST_CHUNK_BYTES
