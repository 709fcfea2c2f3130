"""One call, as the gateway's methods see it: bytes in, bytes out, nothing without a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from coldfuse.errors import GatewayBusyError, UserInputError
from coldfuse.gateway.intake import sender_of
from coldfuse.gateway.sent import Sender
from coldfuse.transport.callers import caller_of, names_of
from coldfuse.transport.channel import MAX_REQUEST_BYTES
from coldfuse.transport.frames import parse
from coldfuse.transport.rooms import Rooms
from coldfuse.transport.status import ERROR_KEY, RETRY_KEY, SENDER_KEY, to_status
from coldfuse.transport.traffic import place_of

A = TypeVar("A")
M = TypeVar("M", bound=Message)

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[bytes]

SHORT_BYTES = 64 << 10
"""Answers up to this size need no turn of their own."""

_FARE_WELL_S = 2.0
"""How long the last word may take to one who may not be listening, before the connection is told without words."""

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

    def __post_init__(self) -> None:
        """Find out who calls."""
        self.caller = caller_of(self.context.peer())
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
        pairs: Any = self.context.invocation_metadata() or ()
        return sender_of(next((str(value) for name, value in pairs if name == SENDER_KEY), None), self.caller)

    async def next_message(self) -> bytes | None:
        """Take the next message; None at the end."""
        data: bytes | None = None
        self.rooms.traffic.await_message(self._place)
        try:
            data = await anext(self.requests, None)
            return data
        finally:
            self.rooms.traffic.read(self._place, None if data is None else len(data))

    async def read(self, kind: type[M]) -> M:
        """Read the only message of a call.

        Raises:
            UserInputError: There is none.
            CodecError: It is none of this kind.
        """
        turn = await self.held.enter_async_context(self.rooms.messages.take(self.caller, MAX_REQUEST_BYTES))
        data = await self.next_message()
        if data is None:
            raise UserInputError(f"expected a {kind.DESCRIPTOR.name}, and the call ended without a message")
        turn.moved(len(data))
        turn.can_cut = False  # it is complete, and what is done with it cannot be stopped
        self.rooms.messages.shrink(turn, 2 * len(data) + SHORT_BYTES)
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
            room = self.rooms.transfers.take(self.caller, 2 * len(data), total_bytes=len(data))
            turn = await self.held.enter_async_context(room)
            turn.expect(len(data))
        await self._heavy.aclose()
        await self.context.write(data)


async def serve(requests: Requests, context: Context, rooms: Rooms, method: Callable[[Call], Any]) -> None:
    """Run a call; an error reaches the caller by its sentence and class, and never as a traceback."""
    place = place_of(context.peer())
    rooms.traffic.begin(place)
    try:
        with rooms.count(caller_of(context.peer())):
            async with AsyncExitStack() as held:
                await method(Call(requests, context, rooms, held))
    except Exception as error:  # noqa: BLE001 - a call's outermost frame: gRPC would send the error's text as it is
        await _abort(context, error)
    finally:
        rooms.traffic.end(place)


async def _abort(context: Context, error: Exception) -> NoReturn:
    """Say why. Behind a message that nobody reads no word arrives: then ending the task resets the stream."""
    code, sentence, kind = to_status(error)
    metadata = [(ERROR_KEY, kind)]
    if isinstance(error, GatewayBusyError):
        metadata.append((RETRY_KEY, str(RETRY_MS)))
    try:
        async with asyncio.timeout(_FARE_WELL_S):
            await context.abort(code, sentence, trailing_metadata=tuple(metadata))
    except (TimeoutError, grpc.aio.InternalError):  # the latter where a message is still on its way
        raise asyncio.CancelledError from None
