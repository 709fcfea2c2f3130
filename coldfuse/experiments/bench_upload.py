"""How fast a gateway takes uploads, beside what gRPC itself can do on the same machine in the same minute.

The bound is a stream of 1 MiB frames to a process that throws them away. The upload does what it must beside: cut a
file into parts, ask for what is missing, hash every byte, write it, and sync it to disk before it is acknowledged. Both
run in turns, with as many streams at a time, against a server process of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc

from coldfuse.core.blob import Blob, Part, part_bytes
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import TransportError
from coldfuse.experiments.bench_fuse import Spread
from coldfuse.registry.federation import create
from coldfuse.storage import LocalStore
from coldfuse.transport.channel import CLIENT_OPTIONS, MAX_CHUNK_BYTES, SERVER_OPTIONS
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway

_MIB = 1 << 20
_METHOD = "/bench/Sink"
_START_TIMEOUT_S = 60.0
_DISK_PARTS = 8


@dataclass(frozen=True, kw_only=True)
class UploadFigures:
    """What was measured for one size."""

    size_mib: int
    num_streams: int
    num_runs: int
    bare_mib_s: Spread
    """gRPC frames of 1 MiB to a process that drops them."""
    upload_mib_s: Spread
    """`GatewayClient.upload` to a gateway on a folder, until the last part is acknowledged."""
    ratio: Spread
    """Rate of the upload over that of the bare stream, each pair measured one after the other."""
    gateway_start_rss_mib: Spread
    """The gateway's memory before the first byte came."""
    gateway_peak_rss_mib: Spread
    """The gateway's memory at its most."""
    disk_mib_s: Spread
    """One thread that writes parts to the same folder and syncs each."""


def bench_upload(
    sizes_mib: Sequence[int], *, num_runs: int = 5, parallel: int = 4, folder: Path | None = None
) -> Iterator[UploadFigures]:
    """Measure one size after the other.

    Args:
        sizes_mib: Sizes of the file that is uploaded.
        num_runs: Counted pairs of a bare stream and an upload; one more comes first and warms up.
        parallel: Parts on their way at once.
        folder: Where the gateway's store lies; None: the system's temporary folder.
    """
    for size_mib in sizes_mib:
        source = _Source.make(size_mib * _MIB)
        runs = []
        for _ in range(num_runs + 1):
            with tempfile.TemporaryDirectory(dir=folder, prefix="bench-upload-") as scratch:
                bare = _bare_rate(source, parallel)
                upload, start_rss, peak_rss = _upload_rate(source, scratch, parallel)
                runs.append((bare, upload, upload / bare, start_rss, peak_rss, _disk_rate(Path(scratch), source)))
        bares, uploads, ratios, starts, peaks, disks = map(Spread.of, zip(*runs[1:], strict=True))
        yield UploadFigures(
            size_mib=size_mib, num_streams=parallel, num_runs=num_runs, bare_mib_s=bares, upload_mib_s=uploads,
            ratio=ratios, gateway_start_rss_mib=starts, gateway_peak_rss_mib=peaks, disk_mib_s=disks,
        )  # fmt: skip


@dataclass(frozen=True)
class _Source:
    """A file of random bytes that takes no room: its parts are one block whose first bytes count them."""

    blob: Blob
    block: bytes

    @classmethod
    def make(cls, num_bytes: int) -> _Source:
        size = min(part_bytes(num_bytes), num_bytes)
        block = os.urandom(size)
        digests = [
            hashlib.sha256(number.to_bytes(8, "big") + block[8:]).hexdigest() for number in range(num_bytes // size)
        ]
        return cls(Blob(parts=tuple(Part(digest=digest, size_bytes=size) for digest in digests)), block)

    def read_range(self, buffer: memoryview, start: int) -> None:
        number, offset = divmod(start, len(self.block))
        buffer[:] = memoryview(self.block)[offset : offset + len(buffer)]
        if offset == 0:
            buffer[:8] = number.to_bytes(8, "big")


def _bare_rate(source: _Source, parallel: int) -> float:
    frame = source.block[:MAX_CHUNK_BYTES]

    def frames(num_bytes: int) -> Iterator[bytes]:
        yield from (frame for _ in range(num_bytes // MAX_CHUNK_BYTES))

    with _server_process(_serve_sink, "") as connection:
        address = connection.recv()
        with grpc.insecure_channel(address, options=CLIENT_OPTIONS) as channel, ThreadPoolExecutor(parallel) as pool:
            send = channel.stream_unary(_METHOD, request_serializer=None, response_deserializer=None)
            send(iter([frame]))  # the connection stands before the clock starts
            began = time.perf_counter()
            received = sum(int(answer) for answer in pool.map(lambda p: send(frames(p.size_bytes)), source.blob.parts))
            took_s = time.perf_counter() - began
        connection.send("stop")
        connection.recv()
    return _rate("the sink", received, source, took_s)


def _upload_rate(source: _Source, scratch: str, parallel: int) -> tuple[float, float, float]:
    with _server_process(_serve_store, scratch) as connection:
        address = connection.recv()
        with GatewayClient(address) as client:
            client.status()
            began = time.perf_counter()
            report = client.upload(source.blob, source.read_range, parallel=parallel)
            took_s = time.perf_counter() - began
        connection.send("stop")
        start_rss, peak_rss = connection.recv()
    return _rate("the gateway", report.sent_bytes, source, took_s), start_rss, peak_rss


def _rate(what: str, received: int, source: _Source, took_s: float) -> float:
    if received != source.blob.size_bytes:
        raise TransportError(f"{what} took {received:,} of {source.blob.size_bytes:,} bytes; measure again")
    return received / _MIB / took_s


def _disk_rate(folder: Path, source: _Source) -> float:
    began = time.perf_counter()
    for number in range(_DISK_PARTS):
        with (folder / f"raw-{number}").open("wb", buffering=0) as file:
            for start in range(0, len(source.block), MAX_CHUNK_BYTES):
                file.write(source.block[start : start + MAX_CHUNK_BYTES])
            os.fsync(file.fileno())
    return _DISK_PARTS * len(source.block) / _MIB / (time.perf_counter() - began)


@contextmanager
def _server_process(target: Callable[[Connection, str], None], argument: str) -> Iterator[Connection]:
    """Run a server in a process of its own, which ends with this one: its end of the pipe closes."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, argument), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(_START_TIMEOUT_S):
            raise TransportError(
                f"the server to measure did not start in {_START_TIMEOUT_S:.0f} s; is the machine busy?"
            )
        yield here
    finally:
        here.close()
        process.join(timeout=10)
        process.kill()


def _serve_store(connection: Connection, folder: str) -> None:
    name = sha256(b"bench")
    base = ReleaseManifest(
        federation=name, release=0, parent=None, round=0, method="base", model_digest=name,
        files={"config.json": Blob(parts=())}, created_at_s=0.0,
    )  # fmt: skip
    settings = FederationSettings(
        federation=name, name="bench", rules=RoundRules(), method="mean", created_at_s=0.0, base="none",
        release_zero=sha256(encode(base)),
    )  # fmt: skip
    with serve_gateway(create(LocalStore(Path(folder, "store")), settings, base)) as gateway:
        start_rss = _memory_mib("VmRSS")
        connection.send(gateway.address)
        connection.recv()
        connection.send((start_rss, _memory_mib("VmHWM")))


def _serve_sink(connection: Connection, _: str) -> None:
    asyncio.run(_sink(connection))


async def _sink(connection: Connection) -> None:
    async def drop(requests: AsyncIterator[bytes], _: Any) -> bytes:
        return str(sum([len(frame) async for frame in requests])).encode()

    handler = grpc.method_handlers_generic_handler("bench", {"Sink": grpc.stream_unary_rpc_method_handler(drop)})
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection.send(f"127.0.0.1:{port}")
    await asyncio.to_thread(connection.recv)
    connection.send("stopped")
    await server.stop(0)


def _memory_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
