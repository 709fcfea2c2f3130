"""Signing requests at their sender's end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from coldfuse.errors import NotAllowedError
from coldfuse.transport.status import AUTH_KEY, class_of, gateway_of
from coldfuse.trust.identity import Identity
from coldfuse.trust.requests import NOBODY, NONCE_BYTES, is_gateway_id, sign_request

T = TypeVar("T")

Metadata = tuple[tuple[str, str], ...]
"""Headers of a call."""

MAX_GATEWAYS = 8
"""How often in a row a call is signed for another gateway, before that counts as a failure."""


class RequestSigner:
    """Signs each try of a call anew, for the gateway that answers. Threads may share it.

    Behind one address there may be several gateways, and each has another id when it starts anew; the one that a call
    comes to says for whom it has to be signed.
    """

    def __init__(self, identity: Identity | None, headers: Metadata = ()) -> None:
        """Begin knowing no gateway.

        Args:
            identity: As whom; None: nothing is signed.
            headers: What every call carries besides.
        """
        self._identity = identity
        self._headers = headers
        self._gateway = NOBODY

    def call(self, path: str, body: bytes, call: Callable[[Metadata], T]) -> T:
        """Make a call, signed; again at once where it came to another gateway, or a newer key is there by now.

        Args:
            path: Path of the method.
            body: The first message.
            call: Makes the call with these headers, from its beginning.

        Raises:
            grpc.RpcError: What the call raises.
        """
        if self._identity is None:
            return call(self._headers)
        refused: dict[str, grpc.RpcError] = {}  # by key
        for _ in range(MAX_GATEWAYS):
            gateway = self._gateway
            text = sign_request(
                self._identity, path, body=body, gateway=gateway, now_s=time.time(),
                nonce=secrets.token_bytes(NONCE_BYTES),
            )  # fmt: skip
            try:
                return call((*self._headers, (AUTH_KEY, text)))
            except grpc.RpcError as error:
                failure = error
                if self._learn(error, used=gateway):
                    continue
                if class_of(error) != NotAllowedError.__name__:
                    raise
                keyid = text.split(" ")[2]
                refused[keyid] = error
                if not self._identity.follow(keyid) or self._identity.signer.public.id in refused:
                    break
        raise next(iter(refused.values()), failure)  # a key that waits for its place is refused for no better reason

    def _learn(self, error: grpc.RpcError, *, used: str) -> bool:
        """Tell whether another gateway has answered than the one that was signed for."""
        gateway = gateway_of(error)
        if gateway is None or gateway == used or not is_gateway_id(gateway):
            return False
        self._gateway = gateway
        return True
