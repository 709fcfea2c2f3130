"""The shell around a `StoreGateway`: asyncio streams outside, blocking calls in bounded pools inside.

Every method is served as a stream of bytes, whatever the `.proto` says: on the wire one message is a stream of one.
gRPC lets a message in when somebody reads it, and for calls of one message it reads by itself, so that a thousand calls
of 2 MiB would lie in memory before anybody was asked. Here nothing is read without a turn (see `turns`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
from pydantic import ValidationError

from coldfuse.core.serialization import sha256
from coldfuse.core.signature import Signature
from coldfuse.errors import CodecError
from coldfuse.gateway import Status, StoreGateway
from coldfuse.gateway.contributions import read_manifest
from coldfuse.gateway.intake import Intake
from coldfuse.gateway.signed import read_statement, root_version
from coldfuse.gateway.upload import PartUpload
from coldfuse.registry.channels import CANDIDATE
from coldfuse.transport.callers import Caller, check_contributor, check_member, check_names
from coldfuse.transport.calls import Call, Context, House, Requests
from coldfuse.transport.frames import SERVICE, NextSize, parse, read_frame, write_block
from coldfuse.transport.limits import BLOCK_BYTES, DOWNLOAD_BYTES, UPLOAD_BYTES
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.shares import Turn
from coldfuse.transport.wire import (
    read_header,
    read_parts,
    read_which,
    write_page,
    write_status,
    write_verdict,
)
from coldfuse.trust.check import claimed_check
from coldfuse.trust.score import claimed_score


class Servicer:
    """Hands calls to the gateway."""

    def __init__(self, gateway: StoreGateway, intake: Intake, house: House, *, show_names: bool) -> None:
        self._gateway = gateway
        self._intake = intake
        self._show_names = show_names
        self._house = house
        self._rooms = house.rooms

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """Return what a server is given."""
        methods = [
            self.get_status, self.get_release, self.list_releases, self.read_object, self.find_missing,
            self.upload_part, self.commit, self.get_verdict, self.get_signed, self.join, self.put_check,
            self.put_score,
        ]  # fmt: skip
        names = {method.__name__.title().replace("_", ""): method for method in methods}
        handlers = {
            name: grpc.stream_stream_rpc_method_handler(self._served(f"/{SERVICE}/{name}", method))
            for name, method in names.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _served(
        self, path: str, method: Callable[[Call], Awaitable[None]]
    ) -> Callable[[Requests, Context], Awaitable[None]]:
        async def run(requests: Requests, context: Context) -> None:
            await self._house.serve(requests, context, path, method)

        return run

    async def get_status(self, call: Call) -> None:
        """See the .proto. The common case takes no thread and no turn: ten thousand nodes ask this all the time."""
        status = self._gateway.recent_status()
        if status is None:
            status = await call.ask(self._gateway.status)
        await call.answer(write_status(self._shown(status, call.caller)))

    def _shown(self, status: Status, caller: Caller) -> Status:
        """Return what a caller is told: how many have contributed, and who only where that is nobody's secret."""
        now = status.round
        shows = caller.is_operator or (self._show_names and not caller.is_stranger)
        if not shows:
            now = replace(now, contributors=(), display_names={})
        if (refusal := self._intake.refusal) is not None:
            now = replace(now, waits_for=f"{now.waits_for}; this gateway takes no contributions: {refusal}")
        return replace(status, round=now)

    async def get_release(self, call: Call) -> None:
        """See the .proto."""
        which = read_which(await call.read(pb.GetReleaseRequest))
        if which == CANDIDATE:
            call.require("GetCandidate")
        await call.be_heavy()
        data = await call.ask(lambda: self._gateway.release_bytes(which))
        await call.answer(pb.GetReleaseResponse(manifest_json=data, manifest_digest=sha256(data)))

    async def list_releases(self, call: Call) -> None:
        """See the .proto."""
        request = await call.read(pb.ListReleasesRequest)
        before = request.before if request.HasField("before") else None
        await call.answer(
            await call.ask(lambda: write_page(self._gateway.releases(before=before), page_size=request.page_size))
        )

    async def find_missing(self, call: Call) -> None:
        """See the .proto."""
        parts = read_parts(await call.read(pb.FindMissingRequest))
        missing = await call.ask(lambda: self._intake.find_missing(parts, call.sender))
        await call.answer(pb.FindMissingResponse(digests=[part.digest for part in missing]))

    async def commit(self, call: Call) -> None:
        """See the .proto."""
        request = await call.read(pb.CommitRequest)
        data, signature = request.manifest_json, _read_signature(request)
        if (asker := call.caller.asker) is not None:
            check_contributor(await call.ask(lambda: read_manifest(data)), asker)
        elif (names := call.names) is not None:  # without a root, a certificate says who somebody is
            check_names(await call.ask(lambda: read_manifest(data)), names)
        verdict = await call.ask(lambda: self._intake.commit(data, call.sender, signature))
        await call.answer(pb.CommitResponse(contribution=verdict.contribution, verdict=write_verdict(verdict)))

    async def get_verdict(self, call: Call) -> None:
        """See the .proto."""
        request = await call.read(pb.GetVerdictRequest)
        asked, caller = (request.round, request.contribution), call.caller
        if (asker := caller.asker) is not None and not caller.is_operator:
            await call.ask(lambda: self._gateway.require_contributor(*asked, asker.name))
        verdict = await call.ask(lambda: self._gateway.verdict(*asked))
        entry = await call.ask(lambda: self._gateway.verdict_entry(*asked)) if request.with_entry else None
        await call.answer(pb.GetVerdictResponse(verdict=write_verdict(verdict), entry=entry))

    async def get_signed(self, call: Call) -> None:
        """See the .proto."""
        key = (await call.read(pb.GetSignedRequest)).key
        version = root_version(key)
        call.require("GetSigned" if version is None else "GetRoot")
        if version is not None and call.caller.is_stranger and not self._house.askers.roll.has_root(version):
            await call.answer(pb.GetSignedResponse())
            return
        if version is None:
            await call.be_heavy()
        await call.answer(pb.GetSignedResponse(content=await call.ask(lambda: self._gateway.read_signed(key))))

    async def join(self, call: Call) -> None:
        """See the .proto. A member's first key proves itself by an invitation, and each later one is the member's."""
        statement = (await call.read(pb.JoinRequest)).statement
        heading = read_statement(statement)
        if heading.number > 0:
            call.require("Rotate")
            check_member(heading.member, call.caller.asker, what="rotates a key")
            self._house.askers.take_rotation(heading.member)
        else:
            self._house.askers.take_join(call.caller.address)
        await call.ask(lambda: self._gateway.join(statement))
        self._house.askers.forget(heading.member)
        await call.answer(pb.JoinResponse())

    async def put_check(self, call: Call) -> None:
        """See the .proto."""
        envelope = (await call.read(pb.PutCheckRequest)).envelope
        check_member(claimed_check(envelope).member, call.caller.asker, what="signs a check")
        await call.ask(lambda: self._gateway.put_check(envelope))
        await call.answer(pb.PutCheckResponse())

    async def put_score(self, call: Call) -> None:
        """See the .proto."""
        envelope = (await call.read(pb.PutScoreRequest)).envelope
        check_member(claimed_score(envelope).member, call.caller.asker, what="signs a score")
        await call.ask(lambda: self._gateway.put_score(envelope))
        await call.answer(pb.PutScoreResponse())

    async def read_object(self, call: Call) -> None:
        """See the .proto. While one block is sent, the next one is read."""
        request = await call.read(pb.ReadObjectRequest)
        digest, start, length = request.digest, request.start_bytes, request.length_bytes
        await call.ask(partial(self._gateway.check_read, request.release, digest, start=start, length=length))
        if self._gateway.reader.is_candidate(request.release):
            call.require("GetCandidate")
        end, size = start + length, NextSize()
        async with self._rooms.transfers.take(call.caller.key, DOWNLOAD_BYTES, total_bytes=length) as turn:
            blocks = (
                self._rooms.move(
                    partial(self._gateway.read, request.release, digest, first, min(BLOCK_BYTES, end - first))
                )
                for first in range(start, end, BLOCK_BYTES)
            )
            coming = next(blocks, None)
            while coming is not None:
                block, coming = await coming, next(blocks, None)
                await _send(call, memoryview(block), turn, size)

    async def upload_part(self, call: Call) -> None:
        """See the .proto."""
        async with call.take_message():
            first = await call.next_message()
        part = read_header(None if first is None else parse(pb.UploadPartRequest, first))
        cost_bytes = UPLOAD_BYTES + self._gateway.write_buffer_bytes(part.size_bytes)
        async with self._rooms.transfers.take(call.caller.key, cost_bytes, total_bytes=part.size_bytes) as turn:
            upload = await self._rooms.move(partial(self._intake.begin_upload, part, call.sender))
            try:
                await self._write(upload, call, turn)
                received_bytes = await self._rooms.move(upload.finish)
            finally:
                self._rooms.drop(upload.abort)  # after the write that may still run; cancelling does not stop it
        await call.answer(pb.UploadPartResponse(received_bytes=received_bytes))

    async def _write(self, upload: PartUpload, call: Call, turn: Turn) -> None:
        """While one chunk is written, the next one arrives; not more, so that memory stays bounded."""
        writing: Awaitable[None] | None = None
        while (message := await call.next_message()) is not None:
            turn.moved(len(message))
            if writing is not None:
                await writing
            writing = self._rooms.move(partial(_write_chunk, upload, message))
        if writing is not None:
            await writing


async def _send(call: Call, block: memoryview, turn: Turn, size: NextSize) -> None:
    """Send a block in messages that grow while they leave fast: a slow reader shows by small ones that it moves."""
    while block:
        piece, block = block[: size.num_bytes], block[size.num_bytes :]
        with size.measured():
            await call.context.write(write_block(piece))
        turn.moved(len(piece))


def _write_chunk(upload: PartUpload, message: bytes) -> None:
    upload.write(read_frame(message))


def _read_signature(message: pb.CommitRequest) -> Signature | None:
    """Return the contributor's signature, if there is one. Raises `CodecError` for what is none."""
    if not message.HasField("signature"):
        return None
    try:
        return Signature(keyid=message.signature.keyid, sig=message.signature.sig)
    except ValidationError:
        raise CodecError("Commit: the signature is none: expected a key's SHA-256 in hex, and base64") from None
