"""One caller, by itself, neither fills a gateway's memory nor keeps others out: counted in a process of its own."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import grpc
import pytest
from federations import make_delta
from gateway_process import MIB, GatewayProcess, most_memory
from raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RawConnection,
    frame,
    headers,
    message_start,
    until,
)

from coldfuse.core.blob import Blob, Part
from coldfuse.core.serialization import sha256
from coldfuse.transport.channel import MAX_REQUEST_BYTES
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.frames import SERVICE
from coldfuse.transport.limits import limits_within
from coldfuse.transport.pb import gateway_pb2 as pb

MEMORY_MIB = 160
NOISE_MIB = 16
"""What lies between two runs of all attacks on one process: holes in the heap, and what comes at the same moment.
Without a bound each attack takes hundreds of MiB more."""
MEMORY = ("--memory", f"{MEMORY_MIB}MiB")
MODEL = random.Random(1).randbytes(8 * MIB)
PART = Part(digest=sha256(MODEL), size_bytes=len(MODEL))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway with little memory, whose release 1 has one part of 8 MiB."""
    with GatewayProcess(tmp_path_factory.mktemp("attacked") / "store", *MEMORY) as gateway:
        federation = gateway.federation
        federation.objects.put(PART.digest, MODEL)
        base = federation.release(0)
        files = base.files | {"model.safetensors": Blob(parts=(PART,))}
        federation.publish(base.model_copy(update={"release": 1, "parent": 0, "round": 1, "files": files}))
        gateway.mute = [RawConnection(gateway.address, preface=False) for _ in range(3)]
        gateway.mute[1].socket.sendall(b"PRI * HTTP/2.0\r\n")
        yield gateway
        for connection in gateway.mute:
            connection.close()


@pytest.fixture
def connect(gateway):
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(RawConnection(gateway.address, **how))


def method(name: str) -> str:
    return f"/{SERVICE}/{name}"


def call(connection: RawConnection, name: str, message) -> int:
    """Make a call of one message, whose answer nobody reads."""
    data = message.SerializeToString()
    stream = connection.open_call(method(name))
    connection.socket.sendall(frame(DATA, message_start(len(data), data), flags=END_STREAM, stream=stream))
    return stream


def assert_others_are_served(gateway: GatewayProcess, seed: int) -> None:
    """Have a contributor behind the same address upload, and a consumer download."""
    delta, buffer = make_delta([MIB], seed=seed), bytearray(len(MODEL))
    with GatewayClient(gateway.address, retry_s=60.0) as client:
        assert client.status().name == "tiny"
        assert client.upload(delta.blob, delta.read_range).sent_bytes == MIB
        client.read_into(1, PART.digest, memoryview(buffer))
    assert bytes(buffer) == MODEL
    assert gateway.peak_mib < MEMORY_MIB + NOISE_MIB


def test_downloads_that_nobody_reads_give_way(gateway, connect):
    request = pb.ReadObjectRequest(release=1, digest=PART.digest, start_bytes=0, length_bytes=len(MODEL))
    for _ in range(8):
        connection = connect()
        for _ in range(4):
            call(connection, "ReadObject", request)
    assert_others_are_served(gateway, seed=1)


def test_uploads_of_a_byte_now_and_then_give_way(gateway, connect):
    header = pb.UploadPartRequest(header=pb.Part(digest="0" * 64, size_bytes=16 * MIB)).SerializeToString()
    byte = pb.UploadPartRequest(chunk=b"x").SerializeToString()
    for _ in range(8):
        connection = connect()
        for _ in range(4):
            stream = connection.open_call(method("UploadPart"))
            for message in (header, byte):
                connection.send(stream, message_start(len(message), message))
    assert_others_are_served(gateway, seed=2)


def test_a_thousand_unread_answers_and_unfinished_requests_stay_small(gateway, connect):
    half = b"x" * (MAX_REQUEST_BYTES // 2)
    streams = [(connection, connection.open_call(method("Commit"))) for connection in [connect() for _ in range(8)]]
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda each: each[0].send(each[1], message_start(MAX_REQUEST_BYTES, half), within_s=1.0), streams)
        )
    for connection, _ in streams:
        for _ in range(125):
            call(connection, "GetRelease", pb.GetReleaseRequest(channel="latest"))
            stream = connection.open_call(method("FindMissing"))
            connection.socket.sendall(frame(DATA, message_start(MAX_REQUEST_BYTES, b"x" * 8192), stream=stream))
    with GatewayClient(gateway.address) as client:
        assert client.status().name == "tiny"
    assert most_memory(gateway, for_s=1.0) < MEMORY_MIB + NOISE_MIB


def test_calls_that_come_faster_than_they_are_looked_at_stay_few(tmp_path):
    """With as long headers as are taken; gRPC keeps 3,000 of them for Python, if nobody tells it otherwise."""
    block = headers(method("GetStatus"), {f"x-{number}": "y" * 400 for number in range(16)})
    calls = b"".join(frame(HEADERS, block, flags=END_HEADERS, stream=stream) for stream in range(1, 2001, 2))

    def open_a_thousand(connection):
        with suppress(OSError):
            connection.socket.sendall(calls)

    with GatewayProcess(tmp_path / "store", *MEMORY) as gateway, ExitStack() as stack:
        before_mib = gateway.memory_mib
        connections = [stack.enter_context(RawConnection(gateway.address)) for _ in range(16)]
        with ThreadPoolExecutor(len(connections)) as pool:
            list(pool.map(open_a_thousand, connections))
        with GatewayClient(gateway.address, retry_s=60.0) as client:
            assert client.status().name == "tiny"
        assert gateway.peak_mib < before_mib + 32


def test_one_part_asked_for_4096_times_by_many_stops_nobody(gateway, connect):
    question = pb.FindMissingRequest(parts=[pb.Part(digest=PART.digest, size_bytes=n) for n in range(4096)])
    same = pb.FindMissingRequest(parts=[pb.Part(digest=PART.digest, size_bytes=len(MODEL))] * 4096)
    before_s = sum(gateway.seen.cpu_times()[:2])
    for _ in range(16):
        connection = connect()
        for asked in (question, same):
            data = asked.SerializeToString()
            connection.send(connection.open_call(method("FindMissing")), message_start(len(data), data))
    with GatewayClient(gateway.address) as client:
        assert client.find_missing([PART]) == [PART]  # it is a release's, and nobody's upload
    assert until(lambda: gateway.seen.cpu_percent(interval=0.2) < 10.0)
    assert sum(gateway.seen.cpu_times()[:2]) - before_s < 16  # half a second of processor time for each, at worst


def test_whoever_connects_and_says_nothing_is_gone_after_the_handshakes_time(gateway):
    assert gateway.mute
    assert all(each.is_closed_within(25.0) for each in gateway.mute)


def test_silent_connections_make_room(gateway):
    most = limits_within(MEMORY_MIB * MIB).max_connections
    with ExitStack() as stack:
        for number in range(most + 100):
            with suppress(OSError):
                stack.enter_context(RawConnection(gateway.address, preface=number % 2 == 0))
        assert gateway.num_connections <= most + 8  # some that are being refused at this moment
        assert until(lambda: gateway.num_connections <= 0.75 * most)
        assert_others_are_served(gateway, seed=5)


BLOCKS = [b"\x00\x01x\x01y" * 3276, b"\x00\x01x\x7f\x80\x7e" + b"y" * 16_255]
"""The middle of headers without end: many short ones, of which gRPC keeps ten times their length, and long ones."""


@pytest.mark.parametrize("block", BLOCKS, ids=["many", "long"])
def test_headers_without_end_are_cut_off(gateway, connect, block):
    connection = connect()
    with suppress(OSError):
        connection.socket.sendall(frame(HEADERS, headers(method("GetStatus")), stream=1))
        for _ in range(4096):  # 64 MiB
            connection.socket.sendall(frame(CONTINUATION, block, stream=1))
    assert connection.is_closed_within(30.0)
    assert gateway.peak_mib < 2 * MEMORY_MIB  # some comes before it is noticed


def test_long_headers_are_refused_in_words(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        ask = channel.unary_unary(method("GetStatus"))
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", metadata=[(f"x-{number}", "y" * 200) for number in range(200)], timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_sixty_four_contributors_of_four_streams_fit_into_the_default(tmp_path):
    block = random.Random(2).randbytes(MIB)

    def read_range(number, buffer, start):
        buffer[:] = block[start % MIB : start % MIB + len(buffer)]
        if start % MIB == 0:
            buffer[:8] = (number * 100 + start // MIB).to_bytes(8, "big")

    def upload(number):
        digests = [sha256((number * 100 + n).to_bytes(8, "big") + block[8:]) for n in range(4)]
        blob = Blob(parts=tuple(Part(digest=digest, size_bytes=MIB) for digest in digests))
        with GatewayClient(gateway.address, retry_s=60.0) as client:
            return client.upload(blob, lambda buffer, start: read_range(number, buffer, start)).sent_bytes

    with GatewayProcess(tmp_path / "store") as gateway:
        with ThreadPoolExecutor(64) as pool:
            assert sum(pool.map(upload, range(64))) == 256 * MIB
        assert gateway.peak_mib < 256
