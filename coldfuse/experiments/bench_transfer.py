"""Bytes to send and to bring, and the bounds: the same bytes by what everybody has, on the same machine at once.

    gRPC      a stream of 1 MiB frames to a process that drops them, or from one that has them in memory
    boto3     its own transfer of a file or to one, with its own settings, to the same S3 server
    copy      a file to another one, synced

The bare gRPC process checks and keeps nothing. What coldfuse does beside: cut into parts, ask what is missing, hash
every byte, write and sync it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import multiprocessing
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import grpc

from coldfuse.core.blob import Blob, Part, part_bytes
from coldfuse.errors import TransportError
from coldfuse.storage import ObjectStore, open_store
from coldfuse.transport.channel import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
_START_TIMEOUT_S = 60.0
_SEND, _BRING = "/bench/Send", "/bench/Bring"


@dataclass(frozen=True)
class Source:
    """A file of random bytes that takes no room: its parts are one block whose first bytes count them."""

    blob: Blob
    block: bytes

    @classmethod
    def make(cls, num_bytes: int) -> Source:
        """Make a file of so many bytes."""
        size = min(part_bytes(num_bytes), num_bytes)
        block = os.urandom(size)
        digests = [
            hashlib.sha256(number.to_bytes(8, "big") + block[8:]).hexdigest() for number in range(num_bytes // size)
        ]
        return cls(Blob(parts=tuple(Part(digest=digest, size_bytes=size) for digest in digests)), block)

    def read_range(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer from `start`."""
        number, offset = divmod(start, len(self.block))
        buffer[:] = memoryview(self.block)[offset : offset + len(buffer)]
        if offset == 0:
            buffer[:8] = number.to_bytes(8, "big")

    def rate(self, what: str, moved: int, took_s: float) -> float:
        """Return MiB a second; raise `TransportError` if not all was moved."""
        if moved != self.blob.size_bytes:
            raise TransportError(f"{what} moved {moved:,} of {self.blob.size_bytes:,} bytes; measure again")
        return moved / MIB / took_s


class _File(io.RawIOBase):
    """A source as boto3 reads it."""

    def __init__(self, source: Source) -> None:
        self._source, self._place = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._source.blob.size_bytes}[whence]
        self._place = origin + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader gives
        view, block = memoryview(buffer), len(self._source.block)
        left = min(self._source.blob.size_bytes - self._place, block - self._place % block)
        count = max(min(len(view), left), 0)
        if count:
            self._source.read_range(view[:count], self._place)
            self._place += count
        return count


def send_bare(source: Source, parallel: int) -> float:
    """Return the rate of a bare gRPC stream to a process that drops what comes."""
    frame = source.block[:MAX_CHUNK_BYTES]

    def frames(num_bytes: int) -> Iterator[bytes]:
        yield from (frame for _ in range(num_bytes // len(frame)))

    with _peer_channel(0) as channel, ThreadPoolExecutor(parallel) as pool:
        send = channel.stream_unary(_SEND, request_serializer=None, response_deserializer=None)
        send(iter([frame]))  # the connection stands before the clock starts
        began = time.perf_counter()
        moved = sum(int(answer) for answer in pool.map(lambda p: send(frames(p.size_bytes)), source.blob.parts))
        return source.rate("the bare stream", moved, time.perf_counter() - began)


def bring_bare(sizes: Sequence[int], parallel: int) -> float:
    """Return the rate of bare gRPC streams of these sizes from a process that has the bytes in memory."""
    with _peer_channel(MAX_CHUNK_BYTES) as channel, ThreadPoolExecutor(parallel) as pool:
        bring = channel.unary_stream(_BRING, request_serializer=None, response_deserializer=None)

        def count(size: int) -> int:
            return sum(len(chunk) for chunk in bring(str(size).encode()))

        count(1)
        began = time.perf_counter()
        moved = sum(pool.map(count, sizes))
        took_s = time.perf_counter() - began
    if moved != sum(sizes):
        raise TransportError(f"the bare stream moved {moved:,} of {sum(sizes):,} bytes; measure again")
    return moved / MIB / took_s


def copy_files(files: Sequence[Path], folder: Path) -> float:
    """Return the rate of copying files, each synced."""
    began = time.perf_counter()
    for number, file in enumerate(files):
        shutil.copyfile(file, out := folder / f"copy-{number}")
        with open(out, "rb") as copied:
            os.fsync(copied.fileno())
    return sum(file.stat().st_size for file in files) / MIB / (time.perf_counter() - began)


class Boto3:
    """boto3 as everybody uses it, on an empty prefix of an S3 bucket."""

    def __init__(self, url: str) -> None:
        self._bucket, _, self._prefix = url.removeprefix("s3://").partition("/")

    @cached_property
    def _client(self) -> S3Client:
        from boto3.session import Session
        from botocore.config import Config

        config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
        return Session().client("s3", config=config)

    def send(self, source: Source) -> float:
        """Return the rate of `upload_fileobj`."""
        began = time.perf_counter()
        self._client.upload_fileobj(io.BufferedReader(_File(source)), self._bucket, self._key)
        took_s = time.perf_counter() - began
        moved = self._client.head_object(Bucket=self._bucket, Key=self._key)["ContentLength"]
        return source.rate("boto3", moved, took_s)

    def bring(self, file: Path, out: Path) -> float:
        """Upload a file, and return the rate of `download_file`, synced."""
        self._client.upload_file(str(file), self._bucket, self._key)
        began = time.perf_counter()
        self._client.download_file(self._bucket, self._key, str(out))
        with open(out, "rb") as brought:
            os.fsync(brought.fileno())
        return file.stat().st_size / MIB / (time.perf_counter() - began)

    @property
    def _key(self) -> str:
        return f"{self._prefix}/boto3".strip("/")


@contextmanager
def scratch_store(store: str | None, folder: Path | None) -> Iterator[tuple[str, Path]]:
    """Yield an empty place for a store, and a folder; both are removed afterwards.

    Args:
        store: A `s3://` url below which a place of its own is made; None: in the folder.
        folder: Where the folder is made; None: the system's temporary folder.
    """
    with TemporaryDirectory(dir=folder, prefix="bench-transfer-") as scratch:
        if store is None:
            yield str(Path(scratch, "store")), Path(scratch)
            return
        url = f"{store.rstrip('/')}/bench-{uuid.uuid4().hex}"
        try:
            yield url, Path(scratch)
        finally:
            _empty(open_store(url))


def _empty(store: ObjectStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        while keys := store.list("").keys:
            list(pool.map(store.delete, keys))


@contextmanager
def _peer_channel(frame_bytes: int) -> Iterator[grpc.Channel]:
    """Run the bare process, and yield a channel to it; it ends with this one: its end of the pipe closes."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve_bare, args=(there, frame_bytes), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(_START_TIMEOUT_S):
            raise TransportError(f"the bare process did not start in {_START_TIMEOUT_S:.0f} s; is the machine busy?")
        with grpc.insecure_channel(here.recv()) as channel:
            yield channel
    finally:
        here.close()
        process.join(timeout=10)
        process.kill()


def _serve_bare(connection: Connection, frame_bytes: int) -> None:
    asyncio.run(_bare(connection, os.urandom(frame_bytes)))


async def _bare(connection: Connection, frame: bytes) -> None:
    async def drop(requests: AsyncIterator[bytes], _: Any) -> bytes:
        return str(sum([len(chunk) async for chunk in requests])).encode()

    async def give(request: bytes, _: Any) -> AsyncIterator[bytes]:
        left = int(request)
        while left:
            yield frame[:left]
            left -= min(left, len(frame))

    methods = {
        "Send": grpc.stream_unary_rpc_method_handler(drop),
        "Bring": grpc.unary_stream_rpc_method_handler(give),
    }
    server = grpc.aio.server()  # as it comes: a gateway has limits of its own
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection.send(f"127.0.0.1:{port}")
    await asyncio.to_thread(_wait_for_end, connection)
    await server.stop(0)


def _wait_for_end(connection: Connection) -> None:
    try:
        connection.recv()
    except (EOFError, OSError):
        return
