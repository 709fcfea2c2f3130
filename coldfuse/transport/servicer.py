"""The shell around `gateway.Gateway`: asyncio streams outside, blocking calls in a bounded pool inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVar

import grpc

from coldfuse.errors import GatewayBusyError, TransportError
from coldfuse.transport.channel import MAX_CHUNK_BYTES
from coldfuse.transport.gateway import Gateway
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.pb import gateway_pb2_grpc
from coldfuse.transport.status import ERROR_KEY, to_status
from coldfuse.transport.upload import PartUpload

Q = TypeVar("Q")
A = TypeVar("A")
Context = grpc.aio.ServicerContext[Any, Any]

READ_AHEAD_BYTES = 4 << 20
"""Read at once and sent as several messages: a range request to S3 costs a round trip."""


class Servicer(gateway_pb2_grpc.GatewayServicer):  # type: ignore[misc]
    """Hands calls to the gateway.

    At most `max_streams` uploads and as many downloads run. Downloads are short and wait their turn. An upload may take
    hours: one that waited for its turn would spend its caller's deadline, so it is told to come back.
    """

    def __init__(self, gateway: Gateway, pool: ThreadPoolExecutor, *, max_streams: int, idle_s: float) -> None:
        self._gateway = gateway
        self._pool = pool
        self._idle_s = idle_s
        self._uploads = asyncio.Semaphore(max_streams)
        self._reads = asyncio.Semaphore(max_streams)

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        """See the .proto. The common case takes no thread: ten thousand nodes ask this all the time."""
        if (status := self._gateway.recent_status()) is not None:
            return status
        return await self._answer(self._gateway.status, request, context)

    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.GetReleaseResponse:  # noqa: N802
        """See the .proto."""
        return await self._answer(self._gateway.release, request, context)

    async def ListReleases(  # noqa: N802
        self, request: pb.ListReleasesRequest, context: Context
    ) -> pb.ListReleasesResponse:
        """See the .proto."""
        return await self._answer(self._gateway.releases, request, context)

    async def FindMissing(self, request: pb.FindMissingRequest, context: Context) -> pb.FindMissingResponse:  # noqa: N802
        """See the .proto."""
        return await self._answer(self._gateway.find_missing, request, context)

    async def Commit(self, request: pb.CommitRequest, context: Context) -> pb.CommitResponse:  # noqa: N802
        """See the .proto."""
        return await self._answer(self._gateway.commit, request, context)

    async def GetVerdict(self, request: pb.GetVerdictRequest, context: Context) -> pb.GetVerdictResponse:  # noqa: N802
        """See the .proto."""
        return await self._answer(self._gateway.verdict, request, context)

    async def ReadObject(  # noqa: N802
        self, request: pb.ReadObjectRequest, context: Context
    ) -> AsyncIterator[pb.ReadObjectResponse]:
        """See the .proto. While one block is sent, the next one is read."""
        async with _told(context), self._reads:
            await self._run(self._gateway.check_read, request)
            end = request.start_bytes + request.length_bytes
            starts = range(request.start_bytes, end, READ_AHEAD_BYTES)
            blocks = (self._read(request.digest, start, min(READ_AHEAD_BYTES, end - start)) for start in starts)
            coming = next(blocks, None)
            while coming is not None:
                block, coming = await coming, next(blocks, None)
                for offset in range(0, len(block), MAX_CHUNK_BYTES):
                    yield pb.ReadObjectResponse(chunk=block[offset : offset + MAX_CHUNK_BYTES])

    async def UploadPart(  # noqa: N802
        self, requests: AsyncIterator[pb.UploadPartRequest], context: Context
    ) -> pb.UploadPartResponse:
        """See the .proto."""
        async with _told(context), self._slot():
            upload = await self._run(self._gateway.begin_upload, await self._next(requests) or pb.UploadPartRequest())
            if upload is None:
                return pb.UploadPartResponse(received_bytes=0)
            try:
                await self._write(upload, requests)
                return pb.UploadPartResponse(received_bytes=await self._run(PartUpload.finish, upload))
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
            writing = asyncio.get_running_loop().run_in_executor(self._pool, upload.write, message.chunk)
        if writing is not None:
            await writing

    async def _next(self, requests: AsyncIterator[pb.UploadPartRequest]) -> pb.UploadPartRequest | None:
        try:
            async with asyncio.timeout(self._idle_s):
                return await anext(requests, None)
        except TimeoutError:
            raise TransportError(f"nothing came for {self._idle_s:.0f} s; send the part again") from None

    def _read(self, digest: str, start: int, length: int) -> Awaitable[bytes]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._gateway.read, digest, start, length)

    async def _run(self, function: Callable[[Q], A], argument: Q) -> A:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, argument)

    async def _answer(self, function: Callable[[Q], A], request: Q, context: Context) -> A:
        async with _told(context):
            return await self._run(function, request)


@asynccontextmanager
async def _told(context: Context) -> AsyncIterator[None]:
    """Tell the caller an error by its sentence and class, and never by a traceback."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a call's outermost frame: gRPC would send the error's text as it is
        await _abort(context, error)


async def _abort(context: Context, error: Exception) -> NoReturn:
    code, sentence, kind = to_status(error)
    await context.abort(code, sentence, trailing_metadata=((ERROR_KEY, kind),))
