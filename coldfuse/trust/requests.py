"""Signed requests: who asks what, of whom, and when; for one use.

A request's headers carry a claim: the member's name and key, the SHA-256 of the request's first message, the time, 16
random bytes, and the id of the gateway that it is for. The signature covers these, the method and the federation, so a
request that somebody has recorded serves no other method, message, gateway or federation; and not this one again, since
a gateway remembers what it has seen for as long as the time is believed. The id of a gateway is another one each time
that it starts: what it remembered is lost then, and nobody needs it any more.

The message's digest stands in the claim, so that a gateway knows who asks before it reads a message.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from coldfuse.core.serialization import encode, sha256
from coldfuse.core.signature import MAX_SIGNATURE_CHARS, Signature
from coldfuse.core.value import Digest, Value
from coldfuse.errors import GatewayBusyError, SignatureError
from coldfuse.trust.envelope import verify_detached
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PublicKey

WINDOW_S = 300.0
"""Seconds by which a request's time may differ from the gateway's clock."""

MAX_CLAIM_CHARS = 512 + MAX_SIGNATURE_CHARS
"""Longest claim."""

NONCE_BYTES = 16
"""Random bytes of a request."""

NOBODY = "0" * 32
"""Id that a client names as long as it knows no gateway's."""

MAX_NONCES, MAX_NONCES_OF_ONE = 65_536, 8_192
"""Requests that are remembered, of all members and of one: about 8 MB."""

_CLAIM = re.compile(
    r"1 (?P<name>[a-z0-9][a-z0-9._-]{0,62}) (?P<keyid>[0-9a-f]{64}) (?P<time_ms>[0-9]{1,15}) (?P<nonce>[0-9a-f]{32}) "
    r"(?P<gateway>[0-9a-f]{32}) (?P<body>[0-9a-f]{64}) "
    rf"(?P<sig>[A-Za-z0-9+/]{{1,{MAX_SIGNATURE_CHARS - 2}}}={{0,2}})"
)


class _Signed(Value):
    """What the signature covers."""

    method: str
    name: str
    time_ms: int
    nonce: str
    federation: Digest
    gateway: str
    body: Digest


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a request's headers claim; nothing of it is verified."""

    name: str
    """Name of the member."""
    time_ms: int
    """Milliseconds since 1970 at which it was signed, by the clock of who did."""
    nonce: str
    """Random bytes in hex."""
    gateway: str
    """Id of the gateway that it is for."""
    body: str
    """SHA-256 of the request's first message."""
    signature: Signature
    """Signature of all this."""

    def require_time(self, *, now_s: float) -> None:
        """Raise `SignatureError`, with the difference, unless it was signed about now."""
        late_s = now_s - self.time_ms / 1000
        if abs(late_s) <= WINDOW_S:
            return
        raise SignatureError(
            f"the request was signed {abs(late_s):.0f} s {'before' if late_s > 0 else 'after'} it came, by the "
            f"gateway's clock; up to {WINDOW_S:.0f} s are allowed: set this machine's clock (or is this an old request "
            "of somebody else's?)"
        )

    def verify(self, method: str, federation: str, key: PublicKey) -> None:
        """Raise `SignatureError` unless this key has signed it, for this method and federation."""
        payload = encode(
            _Signed(
                method=method, name=self.name, time_ms=self.time_ms, nonce=self.nonce, federation=federation,
                gateway=self.gateway, body=self.body,
            )
        )  # fmt: skip
        verify_detached(payload, "request", [self.signature], keys=[key], what=f"the request of {self.name}")

    def require_body(self, message: bytes) -> None:
        """Raise `SignatureError` unless this is the message that was signed."""
        if sha256(message) != self.body:
            raise SignatureError(
                f"the request of {self.name}: is signed for another message than the one that came; something on the "
                "way has changed it"
            )


def is_gateway_id(text: str) -> bool:
    """Tell whether a gateway can have this id: whoever answers a client may be anybody.

    >>> is_gateway_id("0" * 32), is_gateway_id("0" * 31), is_gateway_id("0" * 31 + " ")
    (True, False, False)
    """
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def sign_request(identity: Identity, method: str, *, body: bytes, gateway: str, now_s: float, nonce: bytes) -> str:
    """Return a claim as a request's headers carry it.

    Args:
        identity: Who asks.
        method: Path of the method.
        body: The request's first message.
        gateway: Id of the gateway; `NOBODY` where it is not known yet.
        now_s: Seconds since 1970.
        nonce: Random bytes that were never used before.
    """
    signed = _Signed(
        method=method, name=identity.name, time_ms=int(now_s * 1000), nonce=nonce.hex(),
        federation=identity.federation, gateway=gateway, body=sha256(body),
    )  # fmt: skip
    made = identity.sign(encode(signed), "request")
    return f"1 {signed.name} {made.keyid} {signed.time_ms} {signed.nonce} {gateway} {signed.body} {made.sig}"


def parse_claim(text: str) -> Claim:
    """Read a claim, verifying nothing.

    Raises:
        SignatureError: It is none.
    """
    found = _CLAIM.fullmatch(text) if len(text) <= MAX_CLAIM_CHARS else None
    if found is None:
        raise SignatureError("the request's signature is of no form that is known here; is one end newer?")
    return Claim(
        name=found["name"], time_ms=int(found["time_ms"]), nonce=found["nonce"], gateway=found["gateway"],
        body=found["body"], signature=Signature(keyid=found["keyid"], sig=found["sig"]),
    )  # fmt: skip


@dataclass
class _Seen:
    """What was seen of one member: times and nonces as bytes, in the order of the times."""

    known: set[bytes] = field(default_factory=set)
    by_time: list[bytes] = field(default_factory=list)
    floor_ms: int = 0
    """Nothing that was signed by then is believed any more: it might have been forgotten."""

    def add(self, mark: bytes) -> None:
        self.known.add(mark)
        heapq.heappush(self.by_time, mark)

    def drop_oldest(self) -> None:
        mark = heapq.heappop(self.by_time)
        self.known.discard(mark)
        self.floor_ms = max(self.floor_ms, _time_ms(mark))


def _mark(claim: Claim) -> bytes:
    return claim.time_ms.to_bytes(8) + bytes.fromhex(claim.nonce)


def _time_ms(mark: bytes) -> int:
    return int.from_bytes(mark[:8])


class Nonces:
    """The requests that one gateway has seen, so that none counts twice. One thread uses it.

    Memory is bounded: of whoever has sent too many the oldest are forgotten, and what is as old as these is refused.
    """

    def __init__(self, clock: Callable[[], float], *, max_all: int = MAX_NONCES, max_one: int = MAX_NONCES_OF_ONE):
        self._clock = clock
        self._max_all = max_all
        self._max_one = max_one
        self._seen: dict[str, _Seen] = {}
        self._num_all = 0
        self._swept_s = clock()

    def use(self, claim: Claim) -> None:
        """Take note of a verified request.

        Raises:
            SignatureError: It was seen before.
            GatewayBusyError: So many have come since it was signed that nobody can tell.
        """
        now_s = self._clock()
        if now_s - self._swept_s > WINDOW_S / 10:
            self._sweep(now_s)
        seen = self._seen.setdefault(claim.name, _Seen())
        mark = _mark(claim)
        if mark in seen.known:
            raise SignatureError(f"this request of {claim.name} was seen before: somebody has recorded and repeats it")
        if claim.time_ms <= seen.floor_ms:
            raise GatewayBusyError(
                f"{claim.name}: has sent more requests since this one was signed than are remembered; sign it again"
            )
        seen.add(mark)
        self._num_all += 1
        self._bound(seen)

    def __len__(self) -> int:
        """Return how many are remembered."""
        return self._num_all

    def _bound(self, seen: _Seen) -> None:
        if len(seen.by_time) > self._max_one:
            self._drop(seen)
        if self._num_all <= self._max_all:
            return
        for each in sorted(self._seen.values(), key=lambda each: -len(each.by_time)):  # few others notice
            for _ in range((len(each.by_time) + 1) // 2):
                self._drop(each)
            if self._num_all <= self._max_all - self._max_all // 16:  # so that this is rarely done
                return

    def _drop(self, seen: _Seen) -> None:
        seen.drop_oldest()
        self._num_all -= 1

    def _sweep(self, now_s: float) -> None:
        """Forget what is too old to be believed."""
        self._swept_s = now_s
        oldest_ms = int((now_s - WINDOW_S) * 1000)
        for name, seen in list(self._seen.items()):
            while seen.by_time and _time_ms(seen.by_time[0]) < oldest_ms:
                self._drop(seen)
            if not seen.by_time and seen.floor_ms < oldest_ms:
                del self._seen[name]
