"""The same care for the calls that are not the gateway's own: health and reflection read nothing without a turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

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
    answers = method(given, call.context)
    write: Any = handler.response_serializer
    if handler.response_streaming:
        async for answer in answers:
            await call.context.write(write(answer))
    else:
        await call.context.write(write(await answers))


async def _read_all(call: Call, handler: Handler) -> AsyncIterator[Any]:
    read: Any = handler.request_deserializer
    while True:
        async with call.take_message():
            data = await call.next_message()
        if data is None:
            return
        yield read(data)
