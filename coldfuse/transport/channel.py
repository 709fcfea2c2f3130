"""Options and credentials of both ends of a connection."""

from __future__ import annotations

import grpc

from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.errors import UserInputError
from coldfuse.transport.address import Address
from coldfuse.transport.peer import Peer
from coldfuse.transport.renewing import RenewingChannel
from coldfuse.trust.following import Followed
from coldfuse.trust.tls import TlsBytes

MAX_CHUNK_BYTES = 1 << 20
"""Maximum number of an object's bytes in one message."""

MAX_REQUEST_BYTES = (2 << 20) + (64 << 10)
"""Longer messages are refused: the longest is a contribution's manifest."""

WINDOW_BYTES = 32 << 10
"""Bytes of a call that HTTP/2 lets in before anybody reads it: small requests, and an upload's header."""

_MAX_SENT_BYTES = 4 << 20
_MAX_ANSWER_BYTES = MAX_MANIFEST_BYTES + (1 << 20)  # a release's manifest comes in one message

_SOFT_HEADER_BYTES, _MAX_HEADER_BYTES = 8 << 10, 16 << 10
"""Size from which a call's headers are refused now and then, and always; ours take a few hundred bytes."""

_HANDSHAKE_MS = 15_000
"""How long TLS and HTTP/2 may take to begin; whoever connects and says nothing is gone after it."""

_IDLE_MS = 90_000
"""How long a connection without a call stays: longer than the longest pause between two questions for the status."""

CERTIFIED_MS = 3_600_000
"""How long a caller's certificate is believed after it was looked at: then calls go over a new connection, where it is
looked at again. One that has expired, or whose authority is no longer taken, is out within that time; calls that run
end where they are."""

_MAX_CALLS_OF_A_CONNECTION = 1024
"""More than any node has; a proxy that carries many opens another connection."""

# A ping may wait behind a megabyte that a slow link is still carrying, so its answer has minutes, not seconds.
_PING_EVERY_MS = 60_000
_PING_TIMEOUT_MS = 120_000

_SHORTEST_CONNECT_S, _LONGEST_CONNECT_S = 2.0, 20.0
"""Seconds for making a connection; the latter is gRPC's own default."""

_SHARED_OPTIONS = (
    ("grpc.keepalive_time_ms", _PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),  # without this one a frozen peer is never noticed
)

SERVER_OPTIONS = (
    *_SHARED_OPTIONS,
    ("grpc.max_send_message_length", _MAX_ANSWER_BYTES),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", _SOFT_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_HEADER_BYTES),
    ("grpc.so_reuseport", 0),  # two gateways on one port are a mistake, not load balancing
    ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_EVERY_MS // 2),
    # Probing lets each window grow to what the link could hold, whoever reads it: that more than doubled the memory.
    # Without it a window is what is being read, 1 MiB a stream, which fills 80 Mbit/s over 100 ms.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.max_concurrent_streams", _MAX_CALLS_OF_A_CONNECTION),
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ("grpc.max_connection_idle_ms", _IDLE_MS),
)

CLIENT_OPTIONS = (
    *_SHARED_OPTIONS,
    ("grpc.max_send_message_length", _MAX_SENT_BYTES),
    ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
    ("grpc.max_reconnect_backoff_ms", 5_000),  # a gateway that comes back is found again soon
    ("grpc.enable_retries", 0),  # retrying is the client's, where it can be bounded and logged
)


def server_options(
    *, max_connections: int, max_calls: int, asks_certificates: bool = False
) -> tuple[tuple[str, int], ...]:
    """Return what a gateway's server is started with."""
    age = (("grpc.max_connection_age_ms", CERTIFIED_MS),) if asks_certificates else ()
    bounds = (
        ("grpc.max_allowed_incoming_connections", max_connections),
        # Calls that have come and that Python has not looked at yet: 3,000 of them otherwise, on a busy machine, which
        # nobody has counted. Beyond the first number ever more are cut off; they are tried again.
        ("grpc.server.max_pending_requests", max_calls),
        ("grpc.server.max_pending_requests_hard_limit", 2 * max_calls),
    )
    return (*SERVER_OPTIONS, *bounds, *age)


def open_channel(peer: Peer, *, patience_s: float) -> grpc.Channel:
    """Open a channel, through a proxy only where the peer says so; it takes up certificates when they change.

    Args:
        peer: Where to, and with which certificates.
        patience_s: Seconds that a host which takes the connection, and then says nothing, is waited for at most.
    """
    connect_s = min(max(patience_s, _SHORTEST_CONNECT_S), _LONGEST_CONNECT_S)
    options = (
        *CLIENT_OPTIONS,
        ("grpc.use_local_subchannel_pool", 1),  # each channel has a connection of its own: see `line`
        ("grpc.enable_http_proxy", int(peer.proxy is not None)),
        ("grpc.min_reconnect_backoff_ms", int(1000 * connect_s)),  # what gRPC calls the time to connect
    )

    def secure(files: TlsBytes) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(files.ca, files.key, files.cert)
        return grpc.secure_channel(peer.text, credentials, options=options)

    if peer.is_plain:
        return grpc.insecure_channel(peer.text, options=options)
    if peer.tls is None:
        return secure(TlsBytes(ca=None, cert=None, key=None))
    return RenewingChannel(peer.tls, secure)


def server_credentials(address: Address, *, tls: Followed | None, insecure: bool) -> grpc.ServerCredentials | None:
    """Return what a gateway proves itself with; None: plain text, which only loopback may have unasked.

    Raises:
        UserInputError: Other machines can reach the address and plain text is not allowed, or the certificates cannot
            be used.
    """
    if tls is not None:
        return _reloaded_credentials(tls)
    if not (insecure or address.is_loopback):
        raise UserInputError(
            f"{address.text} can be reached from other machines, so it needs TLS: give a certificate of it and its key "
            "(`coldfuse certs` makes them) with --tls-cert and --tls-key, or allow plain text with --insecure where "
            "you trust the network"
        )
    return None


def _reloaded_credentials(tls: Followed) -> grpc.ServerCredentials:
    """Return credentials that follow their files: what was renewed counts from the next connection on."""
    served = tls.newest()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        now = tls.newest()
        if now is served:
            return None
        served = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        renewed,  # type: ignore[arg-type]  # None means "as before", whatever the stubs say
        require_client_authentication=served.ca is not None,
    )


def _configuration(files: TlsBytes) -> grpc.ServerCertificateConfiguration:
    if files.key is None or files.cert is None:
        raise UserInputError("a gateway with TLS needs a certificate and its key: give --tls-cert and --tls-key")
    return grpc.ssl_server_certificate_configuration([(files.key, files.cert)], root_certificates=files.ca)
