"""A proxy that sees messages: it hands every call on byte by byte, and can note, change, cut and hold what passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import grpc

from coldfuse.transport.channel import SERVER_OPTIONS

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)
Messages = Iterator[bytes]
Change = Callable[[str, Messages], Messages]


@dataclass
class Exchange:
    """One call, as it passed."""

    method: str
    requests: list[bytes] = field(default_factory=list)
    responses: list[bytes] = field(default_factory=list)


def unchanged(method: str, messages: Messages) -> Messages:
    return messages


class WireProxy(grpc.GenericRpcHandler):
    """Stands before a gateway; `calls` has what passed, in the order in which calls began.

    `requests` and `responses` may change what passes, and raise `ConnectionResetError` to cut the call off.
    """

    def __init__(self, address: str, *, requests: Change = unchanged, responses: Change = unchanged) -> None:
        self.requests, self.responses = requests, responses
        self.calls: list[Exchange] = []
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._server = grpc.server(ThreadPoolExecutor(32), handlers=[self], options=SERVER_OPTIONS)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(lambda messages, context: self._pass(details, messages, context))

    def _pass(self, details, messages: Messages, context: grpc.ServicerContext) -> Messages:
        name = details.method.rpartition("/")[2]
        exchange = Exchange(name)
        self.calls.append(exchange)
        call = self._channel.stream_stream(details.method)(
            self.requests(name, _noted(messages, exchange.requests)), timeout=context.time_remaining()
        )
        context.add_callback(call.cancel)
        try:
            yield from _noted(self.responses(name, call), exchange.responses)
        except ConnectionResetError:
            call.cancel()
            context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")
        except grpc.RpcError as error:
            context.set_trailing_metadata(error.trailing_metadata() or ())
            context.abort(error.code(), error.details())

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._channel.close()


def _noted(messages: Messages, into: list[bytes]) -> Messages:
    for message in messages:
        into.append(message)
        yield message
