"""Calls of a gateway as somebody makes them who has no client: every header is the caller's own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc

from coldfuse.transport.status import AUTH_KEY, ERROR_KEY, GATEWAY_KEY
from coldfuse.trust.identity import Identity
from coldfuse.trust.requests import NOBODY, sign_request

ANSWERED = "answered"


@dataclass(frozen=True)
class Outcome:
    """What came of a call."""

    kind: str
    """Name of the error's class, or ANSWERED."""
    sentence: str = ""
    gateway: str | None = None
    answers: tuple[bytes, ...] = ()


class RawCaller:
    """Calls one gateway."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.gateway = NOBODY

    def close(self) -> None:
        self.channel.close()

    def ask(self, path: str, body: bytes, *headers: str, first_only: bool = False) -> Outcome:
        """Send one message with these claims, and read the answers, or the first one."""
        metadata = tuple((AUTH_KEY, header) for header in headers)
        call = self.channel.stream_stream(path, None, None)(iter([body]), metadata=metadata, timeout=20)
        answers: list[bytes] = []
        try:
            for answer in call:
                answers.append(answer)
                if first_only:
                    call.cancel()
                    break
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            return Outcome(trailers.get(ERROR_KEY, f"{error.code()}"), error.details() or "", trailers.get(GATEWAY_KEY))
        return Outcome(ANSWERED, answers=tuple(answers))

    def meet(self, identity: Identity, path: str, body: bytes) -> None:
        """Find out the gateway's id, as a client does."""
        self.gateway = self.ask(path, body, self.claim(identity, path, body)).gateway or self.gateway

    def claim(self, identity: Identity, path: str, body: bytes, **different: object) -> str:
        """Return a claim as a client makes it, but for the differences."""
        values = {"gateway": self.gateway, "now_s": time.time(), "nonce": secrets.token_bytes(16)} | different
        return sign_request(identity, values.pop("method", path), body=values.pop("message", body), **values)


__all__: Iterable[str] = ("ANSWERED", "Outcome", "RawCaller")
Case = Callable[[], Outcome]
