"""Errors to gRPC status codes and back, in one table.

The sentence travels as the status's details. Several classes share a code, so the class's name travels too, as trailing
metadata; an answer without it does not come from a gateway's code but from gRPC, a proxy or another program.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from typing import Any

import grpc

from coldfuse import errors
from coldfuse.errors import ColdfuseError, TransportError
from coldfuse.transport.peer import Peer
from coldfuse.transport.text import plain

logger = logging.getLogger(__name__)

ERROR_KEY = "coldfuse-error"
"""Trailing metadata: the name of the class in `errors.py`."""

SENDER_KEY = "coldfuse-sender"
"""Metadata: a secret by which a client shows that parts which came earlier were its own."""

AUTH_KEY = "coldfuse-auth"
"""Metadata: a signed claim of who asks (see `trust.requests`)."""

GATEWAY_KEY = "coldfuse-gateway"
"""Trailing metadata: the id that a request to this gateway has to be signed for, where it was another one."""

RETRY_KEY = "coldfuse-retry-ms"
"""Trailing metadata: milliseconds after which a call that found no room may come again."""

MAX_RETRY_AFTER_S = 10.0
"""Longest wait that a gateway can ask for."""

CODES: dict[type[ColdfuseError], grpc.StatusCode] = {
    errors.ColdfuseError: grpc.StatusCode.UNKNOWN,
    errors.MissingExtraError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UserInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.StorageError: grpc.StatusCode.UNAVAILABLE,
    errors.ObjectNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.DamagedObjectError: grpc.StatusCode.DATA_LOSS,
    errors.ConflictError: grpc.StatusCode.ABORTED,
    errors.UnsuitableStoreError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CodecError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.DigestMismatchError: grpc.StatusCode.DATA_LOSS,
    errors.SchemaMismatchError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnknownKeyError: grpc.StatusCode.UNAUTHENTICATED,
    errors.UnknownRootError: grpc.StatusCode.UNAUTHENTICATED,
    errors.TrustError: grpc.StatusCode.UNAUTHENTICATED,
    errors.SignatureError: grpc.StatusCode.UNAUTHENTICATED,
    errors.RollbackError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ChainError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ExpiredError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ContributionRejectedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoGainError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RoundClosedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.FusionError: grpc.StatusCode.INTERNAL,
    errors.WorkerLostError: grpc.StatusCode.INTERNAL,
    errors.FederationError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LeaseLostError: grpc.StatusCode.ABORTED,
    errors.TransportError: grpc.StatusCode.UNAVAILABLE,
    errors.GatewayBusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""Every class of `errors.py`, and what the wire says of it."""

_BY_NAME = {kind.__name__: kind for kind in CODES}

_TRANSIENT_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,  # the gateway has its hands full
        grpc.StatusCode.CANCELLED,  # it is being stopped
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,  # how some gRPC versions report a reset stream
        grpc.StatusCode.UNKNOWN,
    }
)


class BrokenStreamError(TransportError):
    """A stream ended well, by its own account, and was too short or too long: something on the way cut it."""


class OtherGatewayError(TransportError):
    """A request was signed for another gateway than the one that it came to; signed again, it is answered."""

    def __init__(self, gateway: str) -> None:
        """Say for which one it has to be signed."""
        super().__init__("the request is signed for another gateway than this one, or for one that has started anew")
        self.gateway = gateway


class UnknownCallError(TransportError):
    """Whoever answers does not know this call: a gateway of an older version, or none."""


def to_status(error: BaseException) -> tuple[grpc.StatusCode, str, str]:
    """Return code, sentence and class name of an error; one that nobody expected is logged, and travels as a number."""
    if isinstance(error, ColdfuseError):
        if isinstance(error, errors.DamagedObjectError):
            logger.error("%s", error)  # who has asked can do nothing about it
        kind = next(base for base in type(error).__mro__ if base in CODES)
        return CODES[kind], plain(str(error)), kind.__name__
    incident = secrets.token_hex(4)
    logger.error("incident %s: unexpected error in the gateway", incident, exc_info=error)
    sentence = f"the gateway met an unexpected error, incident {incident}; its operator finds the cause in its log"
    return grpc.StatusCode.INTERNAL, sentence, TransportError.__name__


_TLS_ADVICE = (
    ("certificate has expired", "its certificate has expired; its operator has to renew it, as `coldfuse certs` does"),
    ("certificate is not yet valid", "its certificate is not valid yet; is this machine's clock right?"),
    ("certificate_verify_failed", "its certificate is of no authority that is known here; give that with --tls-ca"),
    ("hostname verification", "its certificate is for another name; call the gateway by that, or give it another one"),
    ("wrong_version_number", "it speaks no TLS; give the gateway a certificate, or leave the --tls options out"),
    ("socket closed", "does it ask for a certificate? give yours with --tls-cert and --tls-key"),
    ("connection reset", "does it ask for a certificate? give yours with --tls-cert and --tls-key"),
)
_PLAIN_ADVICE = (
    ("socket closed", "does it speak TLS? then give its authority with --tls-ca"),
    ("connection reset", "does it speak TLS? then give its authority with --tls-ca"),
    ("expected settings frame", "what listens there is no gateway"),
)
_ADVICE = (
    ("connection refused", "nobody listens there: is the gateway running, and is this its port?"),
    ("resol", "no such host; check the name and this machine's DNS"),  # "errors resolving", "DNS resolution failed"
    ("timed out", "no answer; does a firewall lie between?"),
    ("unreachable", "no way there; check this machine's network"),
)


def _advise(details: str, peer: Peer) -> str:
    """Say what to do about a connection that did not come about, from gRPC's words for it."""
    low = details.lower()
    if peer.proxy is not None:
        found = "".join(f"{advice}; " for sign, advice in _TLS_ADVICE if sign in low)
        way = f"it goes through the proxy {peer.proxy}"
        return f"{found}{way}; check that, or name the host in no_proxy to go there directly"
    known = (*(_PLAIN_ADVICE if peer.is_plain else _TLS_ADVICE), *_ADVICE)
    default = "is the gateway running, and do both ends agree on TLS?"
    return next((advice for sign, advice in known if sign in low), default)


def from_rpc_error(error: grpc.RpcError, peer: Peer) -> ColdfuseError:
    """Return the error that the gateway raised, or say what went wrong on the way."""
    name = class_of(error)
    details = plain(error.details() or "no details")
    if name is not None:
        return _BY_NAME.get(name, TransportError)(details)
    code, address = error.code(), peer.text
    if code is grpc.StatusCode.UNAVAILABLE:
        reason = details.rpartition("last error: ")[2]  # before it stands that no address could be reached
        return TransportError(f"{address}: cannot be reached ({reason}); {_advise(details, peer)}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TransportError(f"{address}: no answer in time; the network or the gateway is too slow or stuck")
    if code is grpc.StatusCode.CANCELLED:
        return TransportError(f"{address}: cut the call off ({details}); it has its hands full, or is being stopped")
    if _is_too_large(error):
        return TransportError(
            f"{address}: the message is too long for one end ({details}); do both run the same version?"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return UnknownCallError(f"{address}: answers, but is no gateway of this version of coldfuse ({details})")
    return TransportError(f"{address}: {code.name if code else 'no status'} ({details})")


def is_closed_on_us(error: BaseException) -> bool:
    """Tell whether a connection was closed before an answer came, for which the ends may have to agree on something."""
    if not isinstance(error, grpc.RpcError) or class_of(error) is not None:
        return False
    details = (error.details() or "").lower()
    is_away = any(sign in details for sign in ("refused", "resol", "unreachable", "timed out"))
    return error.code() is grpc.StatusCode.UNAVAILABLE and not is_away


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: the way was cut, or the gateway's store was out of reach."""
    if not isinstance(error, grpc.RpcError):
        return isinstance(error, BrokenStreamError)
    if class_of(error) is not None:  # what the gateway itself says: its store or the stream failed, or it is busy
        return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    details = (error.details() or "").lower()
    if _is_too_large(error):
        return False  # another try is as long
    if "certificate_verify_failed" in details or "hostname verification" in details:
        return False  # another try meets the same certificate
    return error.code() in _TRANSIENT_CODES


def gateway_of(error: grpc.RpcError) -> str | None:
    """Return the id of the gateway for which a call has to be signed again; None where that is not what is wrong."""
    return _trailer(error, GATEWAY_KEY)


def retry_after_s(error: grpc.RpcError) -> float:
    """Return how long the gateway asks to wait before the next try; at most a few seconds, whoever says it."""
    text = _trailer(error, RETRY_KEY) or ""
    return min(int(text[:6]) / 1000, MAX_RETRY_AFTER_S) if text.isascii() and text.isdecimal() else 0.0


def _is_too_large(error: grpc.RpcError) -> bool:
    """Tell a message beyond the limit of either end from a gateway that has no room for a call: one code has both."""
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or "").lower()


def class_of(error: grpc.RpcError) -> str | None:
    """Return the name of the class of the gateway's error; None where it is not the gateway that speaks."""
    return _trailer(error, ERROR_KEY)


def _trailer(error: grpc.RpcError, name: str) -> str | None:
    metadata: Iterable[Any] = error.trailing_metadata() or ()  # pairs, whatever the stubs say
    return next((str(value) for key, value in metadata if key == name), None)
