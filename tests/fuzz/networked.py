"""Readers behind a socket: a gateway that is sent anything, a client that is answered anything, and S3 that says it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import grpc
from federations import BASE_MODEL, make_delta, make_federation, make_manifest, open_round

from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import ColdfuseError
from coldfuse.storage import MemoryStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.server import GatewaySettings, serve_gateway
from fuzz.running import Reader

DIGEST = sha256(b"x")
RELEASE = encode(make_federation(MemoryStore()).release(0))
PART = make_delta([1000]).blob.parts[0]
_OWN_FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED)
METHODS = {
    "GetStatus": (pb.GetStatusRequest(),),
    "GetRelease": (pb.GetReleaseRequest(channel="latest"), pb.GetReleaseRequest(number=0)),
    "ListReleases": (pb.ListReleasesRequest(before=5, page_size=3),),
    "ReadObject": (pb.ReadObjectRequest(release=0, digest=sha256(BASE_MODEL), start_bytes=1, length_bytes=9),),
    "FindMissing": (pb.FindMissingRequest(parts=[pb.Part(digest=DIGEST, size_bytes=5)] * 3),),
    "UploadPart": (pb.UploadPartRequest(header=pb.Part(digest=sha256(b""), size_bytes=0)),),
    "Commit": (pb.CommitRequest(manifest_json=encode(make_manifest(make_delta([1000]).blob))),),
    "GetVerdict": (pb.GetVerdictRequest(round=1, contribution=DIGEST),),
}


def gateway_readers(stack: ExitStack) -> dict[str, Reader]:
    """Readers of a gateway's requests, each the bytes of one message; it must never meet an error of its own."""
    federation = make_federation(MemoryStore())
    open_round(federation)
    gateway = stack.enter_context(serve_gateway(federation, GatewaySettings(tune_allocator=False)))
    channel = stack.enter_context(grpc.insecure_channel(gateway.address))
    return {f"request {method}": _request_reader(channel, method, seeds) for method, seeds in METHODS.items()}


def _request_reader(channel: grpc.Channel, method: str, seeds: tuple) -> Reader:
    call = channel.stream_stream(f"/coldfuse.v1.Gateway/{method}")

    def read(data: bytes) -> None:
        try:
            list(call(iter([data]), timeout=10))
        except grpc.RpcError as error:
            words = f"{method}: {error.code()}: {error.details()}"
            if error.code() in _OWN_FAULTS or "incident" in (error.details() or ""):
                raise AssertionError(words) from error
            raise ColdfuseError(words) from None

    return Reader(read, tuple(seed.SerializeToString() for seed in seeds), is_slow=True)


class AnyAnswer(grpc.GenericRpcHandler):
    """A program that answers every call with the same bytes."""

    def __init__(self) -> None:
        self.data = b""
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: iter([self.data]))

    def stop(self) -> None:
        self._server.stop(None).wait()


def client_readers(stack: ExitStack) -> dict[str, Reader]:
    """Readers of a gateway's answers, each the bytes of one message."""
    server = AnyAnswer()
    stack.callback(server.stop)
    client = stack.enter_context(GatewayClient(server.address, retry_s=0.01))
    status = pb.GetStatusResponse(
        protocol_version=1, layout_version=1, federation_digest=DIGEST, federation_name="f", method="mean",
        rules=pb.RoundRules(quorum=2, deadline_s=60.0), max_contribution_bytes=5, poll_after_ms=500,
        latest=pb.Release(number=1, model_digest=DIGEST, manifest_digest=DIGEST),
        round=pb.Round(number=2, is_open=True, contributors=["ada"], display_names={"ada": "Ada"}, waits_for="more"),
    )  # fmt: skip
    fused = pb.FusedContribution(contributor="ada", num_examples=5, weight=1.0, contribution=DIGEST)
    page = pb.ListReleasesResponse(
        releases=[pb.ReleaseSummary(release=pb.Release(number=1), method="mean", contributions=[fused])],
    )
    verdict = pb.Verdict(decision=pb.DECISION_REJECTED, reason="no", is_late=True)
    manifest = make_manifest(make_delta([1000]).blob)
    calls: dict[str, tuple[Callable[[], object], object]] = {
        "status": (client.status, status),
        "releases": (lambda: [each for each, _ in zip(client.releases(), range(5), strict=False)], page),
        "release": (client.release, pb.GetReleaseResponse(manifest_json=RELEASE, manifest_digest=sha256(RELEASE))),
        "missing": (lambda: client.find_missing([PART]), pb.FindMissingResponse(digests=[PART.digest])),
        "commit": (lambda: client.commit(manifest), pb.CommitResponse(contribution=DIGEST, verdict=verdict)),
        "verdict": (lambda: client.verdict(1, DIGEST), pb.GetVerdictResponse(verdict=verdict)),
        "object": (
            lambda: client.read_into(0, DIGEST, memoryview(bytearray(9))), pb.ReadObjectResponse(chunk=b"x" * 9)
        ),
    }  # fmt: skip

    def reader(call: Callable[[], object], seed: object) -> Reader:
        def read(data: bytes) -> object:
            server.data = data
            return str(call())

        return Reader(read, (seed.SerializeToString(),), is_slow=True)

    return {f"answer {name}": reader(call, seed) for name, (call, seed) in calls.items()}


class AnyHttp:
    """A server that answers every request with the same bytes, and closes."""

    def __init__(self) -> None:
        self.data = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(client, self.data), daemon=True).start()

    def _answer(self, client: socket.socket, data: bytes) -> None:
        with client, suppress(OSError):
            client.settimeout(2)
            client.recv(1 << 16)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):  # closing on what was not read would take the answer back
                pass


def s3_readers(stack: ExitStack) -> dict[str, Reader]:
    """Readers of an S3 server's replies: to each operation that a store makes."""
    from coldfuse.storage.s3 import S3Store
    from coldfuse.storage.s3_settings import S3Settings

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "x")
    server = AnyHttp()
    stack.callback(server.close)
    settings = S3Settings(
        endpoint_url=server.url, region="us-east-1", num_attempts=1, read_timeout_s=2.0, connect_timeout_s=2.0
    )
    store = S3Store("s3://bucket/prefix", settings=settings)
    operations: dict[str, Callable[[], object]] = {
        "get": lambda: store.get_with_etag("a"),
        "head": lambda: store.head("a"),
        "read": lambda: store.read_into("a", memoryview(bytearray(5))),
        "put": lambda: store.put_if_absent("a", b"x"),
        "swap": lambda: store.compare_and_swap("a", b"x", etag='"e"'),
        "list": lambda: store.list("rounds/"),
    }

    def reader(operation: Callable[[], object], seeds: tuple[bytes, ...]) -> Reader:
        def read(data: bytes) -> object:
            server.data = data
            return operation()

        return Reader(read, seeds, is_slow=True)

    return {f"s3 {name}": reader(operation, tuple(_replies(name))) for name, operation in operations.items()}


def _replies(operation: str) -> Iterator[bytes]:
    yield _reply(200, b"hello", b'ETag: "e"\r\nContent-Range: bytes 0-4/5\r\n')
    yield _reply(200, b"", b'ETag: "e"\r\n')
    yield _reply(404, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")
    yield _reply(412, b"<Error><Code>PreconditionFailed</Code></Error>")
    yield _reply(503, b"<Error><Code>SlowDown</Code></Error>", b"Retry-After: 99999\r\n")
    if operation == "list":
        listing = (
            b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated>'
            b"<NextContinuationToken>t</NextContinuationToken>"
            b"<Contents><Key>prefix/rounds/1</Key><Size>5</Size></Contents></ListBucketResult>"
        )
        yield _reply(200, listing)


def _reply(status: int, body: bytes, headers: bytes = b"") -> bytes:
    # Said in words, or a client may use the connection once more before it hears that it was closed.
    lines = b"Content-Length: %d\r\nConnection: close\r\n" % len(body) + headers
    return b"HTTP/1.1 %d X\r\n%s\r\n%s" % (status, lines, body)


def networked_readers(stack: ExitStack) -> dict[str, Reader]:
    """All readers behind sockets; the stack ends them."""
    return gateway_readers(stack) | client_readers(stack) | s3_readers(stack)
