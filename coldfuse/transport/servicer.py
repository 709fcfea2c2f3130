"""The shell around a `StoreGateway`: asyncio streams outside, blocking calls in a bounded pool inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn, TypeVar

import grpc

from coldfuse.core.serialization import sha256
from coldfuse.errors import GatewayBusyError, TransportError
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.upload import PartUpload
from coldfuse.transport.channel import MAX_CHUNK_BYTES
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.pb import gateway_pb2_grpc
from coldfuse.transport.status import ERROR_KEY, to_status
from coldfuse.transport.wire import (
    read_chunk,
    read_header,
    read_parts,
    read_which,
    write_page,
    write_status,
    write_verdict,
)

A = TypeVar("A")
Context = grpc.aio.ServicerContext[Any, Any]

READ_AHEAD_BYTES = 4 << 20
"""Read at once and sent as several messages: a range request to S3 costs a round trip."""


class Servicer(gateway_pb2_grpc.GatewayServicer):  # type: ignore[misc]
    """Hands calls to the gateway.

    At most `max_streams` uploads and as many downloads run. Downloads are short and wait their turn. An upload may take
    hours: one that waited for its turn would spend its caller's deadline, so it is told to come back.
    """

    def __init__(self, gateway: StoreGateway, pool: ThreadPoolExecutor, *, max_streams: int, idle_s: float) -> None:
        self._gateway = gateway
        self._pool = pool
        self._idle_s = idle_s
        self._uploads = asyncio.Semaphore(max_streams)
        self._reads = asyncio.Semaphore(max_streams)

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: ARG002, N802
        """See the .proto. The common case takes no thread: ten thousand nodes ask this all the time."""
        if (status := self._gateway.recent_status()) is not None:
            return write_status(status)
        return await self._answer(context, lambda: write_status(self._gateway.status()))

    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.GetReleaseResponse:  # noqa: N802
        """See the .proto."""

        def answer() -> pb.GetReleaseResponse:
            data = self._gateway.release_bytes(read_which(request))
            return pb.GetReleaseResponse(manifest_json=data, manifest_digest=sha256(data))

        return await self._answer(context, answer)

    async def ListReleases(  # noqa: N802
        self, request: pb.ListReleasesRequest, context: Context
    ) -> pb.ListReleasesResponse:
        """See the .proto."""
        before = request.before if request.HasField("before") else None
        return await self._answer(
            context, lambda: write_page(self._gateway.releases(before=before), page_size=request.page_size)
        )

    async def FindMissing(self, request: pb.FindMissingRequest, context: Context) -> pb.FindMissingResponse:  # noqa: N802
        """See the .proto."""

        def answer() -> pb.FindMissingResponse:
            missing = self._gateway.find_missing(read_parts(request))
            return pb.FindMissingResponse(digests=[part.digest for part in missing])

        return await self._answer(context, answer)

    async def Commit(self, request: pb.CommitRequest, context: Context) -> pb.CommitResponse:  # noqa: N802
        """See the .proto."""

        def answer() -> pb.CommitResponse:
            verdict = self._gateway.commit_bytes(request.manifest_json)
            return pb.CommitResponse(contribution=verdict.contribution, verdict=write_verdict(verdict))

        return await self._answer(context, answer)

    async def GetVerdict(self, request: pb.GetVerdictRequest, context: Context) -> pb.GetVerdictResponse:  # noqa: N802
        """See the .proto."""

        def answer() -> pb.GetVerdictResponse:
            return pb.GetVerdictResponse(
                verdict=write_verdict(self._gateway.verdict(request.round, request.contribution))
            )

        return await self._answer(context, answer)

    async def ReadObject(  # noqa: N802
        self, request: pb.ReadObjectRequest, context: Context
    ) -> AsyncIterator[pb.ReadObjectResponse]:
        """See the .proto. While one block is sent, the next one is read."""
        digest, start, length = request.digest, request.start_bytes, request.length_bytes
        async with _errors_as_status(context), self._reads:
            await self._run(partial(self._gateway.check_read, request.release, digest, start=start, length=length))
            end = start + length
            blocks = (
                self._run(
                    partial(self._gateway.read, request.release, digest, first, min(READ_AHEAD_BYTES, end - first))
                )
                for first in range(start, end, READ_AHEAD_BYTES)
            )
            coming = next(blocks, None)
            while coming is not None:
                block, coming = await coming, next(blocks, None)
                for offset in range(0, len(block), MAX_CHUNK_BYTES):
                    yield pb.ReadObjectResponse(chunk=block[offset : offset + MAX_CHUNK_BYTES])

    async def UploadPart(  # noqa: N802
        self, requests: AsyncIterator[pb.UploadPartRequest], context: Context
    ) -> pb.UploadPartResponse:
        """See the .proto."""
        async with _errors_as_status(context), self._slot():
            part = read_header(await self._next(requests))
            upload = await self._run(partial(self._gateway.begin_upload, part))
            if upload is None:
                return pb.UploadPartResponse(received_bytes=0)
            try:
                await self._write(upload, requests)
                return pb.UploadPartResponse(received_bytes=await self._run(upload.finish))
            finally:
                self._pool.submit(upload.abort)  # after the write that may still run; cancelling does not stop it

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._uploads.locked():
            raise GatewayBusyError("the gateway takes as many uploads as it can; try again later")
        async with self._uploads:
            yield

    async def _write(self, upload: PartUpload, requests: AsyncIterator[pb.UploadPartRequest]) -> None:
        """While one chunk is written, the next one arrives; not more, so that memory stays bounded."""
        writing: Awaitable[None] | None = None
        while (message := await self._next(requests)) is not None:
            if writing is not None:
                await writing
            writing = self._run(partial(_write_chunk, upload, message))
        if writing is not None:
            await writing

    async def _next(self, requests: AsyncIterator[pb.UploadPartRequest]) -> pb.UploadPartRequest | None:
        try:
            async with asyncio.timeout(self._idle_s):
                return await anext(requests, None)
        except TimeoutError:
            raise TransportError(f"nothing came for {self._idle_s:.0f} s; send the part again") from None

    def _run(self, function: Callable[[], A]) -> Awaitable[A]:
        """Begin to run a function that blocks, in a thread of the pool."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def _answer(self, context: Context, function: Callable[[], A]) -> A:
        async with _errors_as_status(context):
            return await self._run(function)


def _write_chunk(upload: PartUpload, message: pb.UploadPartRequest) -> None:
    upload.write(read_chunk(message))


@asynccontextmanager
async def _errors_as_status(context: Context) -> AsyncIterator[None]:
    """Tell the caller an error by its sentence and class, and never by a traceback."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a call's outermost frame: gRPC would send the error's text as it is
        await _abort(context, error)


async def _abort(context: Context, error: Exception) -> NoReturn:
    code, sentence, kind = to_status(error)
    await context.abort(code, sentence, trailing_metadata=((ERROR_KEY, kind),))
