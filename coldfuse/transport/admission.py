"""The same care for the calls that are not the gateway's own: health and reflection read nothing without a turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isasyncgen
from typing import Any

import grpc

from coldfuse.errors import UserInputError
from coldfuse.transport.calls import Call, Context, House, Requests
from coldfuse.transport.frames import SERVICE

Handler = Any
"""A `grpc.RpcMethodHandler`, whose stubs disagree with what gRPC has."""


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # it takes none
    """Turns every other service's methods into streams that are read when there is room."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def intercept_service(  # type: ignore[override]  # the stubs know no method that is not there
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]], details: Any
    ) -> Handler | None:
        """Return the handler as it is, or one around it."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(f"/{SERVICE}/"):
            return handler

        async def run(requests: Requests, context: Context) -> None:
            await self._house.serve(requests, context, details.method, lambda call: _handle(call, handler))

        return grpc.stream_stream_rpc_method_handler(run)


async def _handle(call: Call, handler: Handler) -> None:
    """Call a handler of any of the four kinds, with messages instead of bytes."""
    given: Any = _read_all(call, handler)
    if not handler.request_streaming:
        given = await anext(given)
    method: Any = next(
        filter(None, (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream))
    )
    write: Any = handler.response_serializer
    try:
        answers = method(given, _Messages(call.context, write))
    except NotImplementedError:  # a service may have more methods than its library has
        raise UserInputError("this gateway does not answer this") from None
    if isasyncgen(answers):
        async for answer in answers:
            await call.context.write(write(answer))
    elif (answer := await answers) is not None:  # a stream may also be written by the context
        await call.context.write(write(answer))


class _Messages:
    """A call's context that takes messages where the call's own takes bytes."""

    def __init__(self, context: Context, write: Callable[[Any], bytes]) -> None:
        self._context, self._write = context, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Write a message."""
        await self._context.write(self._write(message))


async def _read_all(call: Call, handler: Handler) -> AsyncIterator[Any]:
    read: Any = handler.request_deserializer
    while True:
        async with call.take_message():
            data = await call.next_message()
        if data is None:
            return
        yield read(data)
