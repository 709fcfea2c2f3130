"""One call, as the gateway's methods see it: bytes in, bytes out, nothing without a turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from coldfuse.errors import GatewayBusyError, UserInputError
from coldfuse.gateway.intake import sender_of, sender_of_member
from coldfuse.gateway.sent import Sender
from coldfuse.transport.askers import Askers
from coldfuse.transport.callers import Caller, caller_of, names_of
from coldfuse.transport.channel import MAX_REQUEST_BYTES
from coldfuse.transport.frames import SERVICE, parse
from coldfuse.transport.rooms import Rooms
from coldfuse.transport.shares import Turn
from coldfuse.transport.status import (
    AUTH_KEY,
    ERROR_KEY,
    GATEWAY_KEY,
    RETRY_KEY,
    SENDER_KEY,
    OtherGatewayError,
    to_status,
)
from coldfuse.transport.traffic import place_of
from coldfuse.trust.requests import Claim
from coldfuse.trust.rights import is_current, require_right

A = TypeVar("A")
M = TypeVar("M", bound=Message)

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[bytes]

SHORT_BYTES = 64 << 10
"""Answers up to this size need no turn of their own."""

_FARE_WELL_S = 2.0
"""How long the last word may take to one who may not be listening, before the connection is told without words."""

JOIN = f"/{SERVICE}/Join"

_FIRST = {f"/{SERVICE}/GetSigned": "GetRoot"}
"""Rights that are asked for before a message is read, where it is the message that says what is asked for."""

RETRY_MS = 2_000
"""When to come again, for whom there was no room."""


@dataclass(eq=False)
class Call:
    """One call while it runs."""

    requests: Requests
    context: Context
    rooms: Rooms
    held: AsyncExitStack
    """What the call holds until it ends."""
    caller: Caller
    """Who calls."""
    claim: Claim | None = None
    """What the caller has signed, verified but for the message."""
    is_open: bool = False
    """Whether the federation lets everybody read."""

    def __post_init__(self) -> None:
        """Begin with no message read."""
        self._place = place_of(self.context.peer())
        self._heavy = AsyncExitStack()
        self.held.push_async_exit(self._heavy)

    @property
    def names(self) -> list[str] | None:
        """Names that the caller's certificate vouches for; None where the gateway asks for no certificate."""
        known = self.context.auth_context()
        return names_of(known) if "x509_pem_cert" in known else None

    @property
    def sender(self) -> Sender:
        """Who brings parts."""
        if self.caller.asker is not None:
            return sender_of_member(self.caller.asker, self.caller.key)
        return sender_of(_header(self.context, SENDER_KEY), self.caller.key)

    def require(self, right: str) -> None:
        """Raise `NotAllowedError` unless the caller may do this; where there are no members, everybody may."""
        if self.caller.is_stranger or self.caller.asker is not None:
            require_right(right, self.caller.asker, is_open=self.is_open, now_s=time.time())

    async def next_message(self) -> bytes | None:
        """Take the next message; None at the end.

        Raises:
            SignatureError: It is the first one, and not what the caller has signed.
        """
        data: bytes | None = None
        self.rooms.traffic.await_message(self._place)
        try:
            data = await anext(self.requests, None)
        finally:
            self.rooms.traffic.read(self._place, None if data is None else len(data))
        if self.claim is not None:
            self.claim.require_body(data or b"")
            self.claim = None  # what follows is named by its digest in the first
        return data

    def take_message(self) -> AbstractAsyncContextManager[Turn]:
        """Wait for the memory that a message takes."""
        if self.caller.is_stranger:
            return self.rooms.doorstep.take(self.caller.address, MAX_REQUEST_BYTES)
        return self.rooms.messages.take(self.caller.key, MAX_REQUEST_BYTES)

    async def read(self, kind: type[M]) -> M:
        """Read the only message of a call.

        Raises:
            UserInputError: There is none.
            CodecError: It is none of this kind.
        """
        turn = await self.held.enter_async_context(self.take_message())
        data = await self.next_message()
        if data is None:
            raise UserInputError(f"expected a {kind.DESCRIPTOR.name}, and the call ended without a message")
        turn.moved(len(data))
        turn.can_cut = False  # it is complete, and what is done with it cannot be stopped
        turns = self.rooms.doorstep if self.caller.is_stranger else self.rooms.messages
        turns.shrink(turn, 2 * len(data) + SHORT_BYTES)
        if len(data) > SHORT_BYTES:
            await self.be_heavy()
        return parse(kind, data)

    async def be_heavy(self) -> None:
        """Wait until few others work on what is large; lasts until the answer has its turn."""
        await self._heavy.enter_async_context(self.rooms.heavy)

    async def ask(self, function: Callable[[], A]) -> A:
        """Run what asks the store, in a thread."""
        return await self.rooms.ask(self.caller, function)

    async def answer(self, message: Message) -> None:
        """Send the only message of an answer; a long one takes a turn, as its reader may be slow."""
        data = message.SerializeToString()
        if len(data) > SHORT_BYTES:
            room = self.rooms.transfers.take(self.caller.key, 2 * len(data), total_bytes=len(data))
            turn = await self.held.enter_async_context(room)
            turn.expect(len(data))
        await self._heavy.aclose()
        await self.context.write(data)


@dataclass(frozen=True, kw_only=True)
class House:
    """What all calls of one gateway go through."""

    rooms: Rooms
    askers: Askers

    async def serve(self, requests: Requests, context: Context, path: str, method: Callable[[Call], Any]) -> None:
        """Run a call, if its caller may make it. Every call of every service comes by here, and nowhere else.

        An error reaches the caller by its sentence and class, and never as a traceback.
        """
        place = place_of(context.peer())
        self.rooms.traffic.begin(place)
        try:
            caller, claim = await self._identify(context, path)
            with self.rooms.count(caller):
                async with AsyncExitStack() as held:
                    call = Call(requests, context, self.rooms, held, caller, claim, self.askers.roll.is_open)
                    call.require(_FIRST.get(path, right_of(path)))
                    await method(call)
        except Exception as error:  # noqa: BLE001 - a call's outermost frame: gRPC would send the error's text as it is
            await _abort(context, error)
        finally:
            self.rooms.traffic.end(place)

    async def _identify(self, context: Context, path: str) -> tuple[Caller, Claim | None]:
        address = caller_of(context.peer())
        found = await self.askers.find(
            path, _header(context, AUTH_KEY), address=address, former=path == JOIN
        )  # fmt: skip
        if found is None:
            return Caller(address=address, is_stranger=self.askers.roll.has_members), None
        asker, claim = found
        return Caller(address=address, asker=asker, is_stranger=not is_current(asker, now_s=time.time())), claim


def right_of(path: str) -> str:
    """Return what a call asks for, as the table of rights calls it.

    >>> right_of("/coldfuse.v1.Gateway/Commit"), right_of("/grpc.health.v1.Health/Watch")
    ('Commit', 'Health')
    """
    service, _, method = path.strip("/").rpartition("/")
    return method if service == SERVICE else service.rpartition(".")[2]


def _header(context: Context, key: str) -> str | None:
    pairs: Any = context.invocation_metadata() or ()
    return next((str(value) for name, value in pairs if name == key), None)


async def _abort(context: Context, error: Exception) -> NoReturn:
    """Say why. Behind a message that nobody reads no word arrives: then ending the task resets the stream."""
    code, sentence, kind = to_status(error)
    metadata = [(ERROR_KEY, kind)]
    if isinstance(error, GatewayBusyError):
        metadata.append((RETRY_KEY, str(RETRY_MS)))
    if isinstance(error, OtherGatewayError):
        metadata.append((GATEWAY_KEY, error.gateway))
    try:
        async with asyncio.timeout(_FARE_WELL_S):
            await context.abort(code, sentence, trailing_metadata=tuple(metadata))
    except (TimeoutError, grpc.aio.InternalError):  # the latter where a message is still on its way
        raise asyncio.CancelledError from None
