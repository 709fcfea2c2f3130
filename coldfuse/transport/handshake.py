"""Why a connection ends before the first answer, where gRPC only knows that a socket was closed.

The ends may disagree on TLS: one speaks it and the other does not, or the gateway asks for a certificate. No further
try changes that, and gRPC tries for as long as it is told to. So the first time a connection is closed on us, the same
is done by hand with Python's `ssl`, which hears the reason.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from coldfuse.transport.address import Address
from coldfuse.trust.tls import TlsFiles

PROBE_S = 2.0
"""Longest time for each step."""

_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""HTTP/2's first words, with empty settings."""

_ASKS = "the gateway asks for your certificate; give it with --tls-cert and --tls-key"
_REFUSES = (
    "the gateway does not accept your certificate ({}); give one that comes from an authority which it knows "
    "(its --tls-ca), and is valid now"
)
_SPEAKS_TLS = "the gateway speaks TLS; give its authority with --tls-ca"
_SPEAKS_PLAIN = "the gateway speaks no TLS; give it a certificate, or leave the --tls options out"


def find_disagreement(address: Address, *, is_plain: bool, tls: TlsFiles | None, proxy: str | None) -> str | None:
    """Say what both ends have to agree on; None where nothing of the kind is found, twice in the same words.

    Args:
        address: The gateway.
        is_plain: True where plain text is spoken to it.
        tls: This end's files.
        proxy: Host and port of the proxy on the way, if there is one.
    """
    found = _look(address, is_plain=is_plain, tls=tls, proxy=proxy)
    if found is None:  # a gateway that is killed at this moment closes connections, too
        return None
    return found if found == _look(address, is_plain=is_plain, tls=tls, proxy=proxy) else None


def _look(address: Address, *, is_plain: bool, tls: TlsFiles | None, proxy: str | None) -> str | None:
    if is_plain:
        answers = _answers_plain(address, proxy)
        return _SPEAKS_TLS if answers is False and _speaks_tls(address, proxy) else None
    return _why_tls_fails(address, tls or TlsFiles(), proxy)


def _answers_plain(address: Address, proxy: str | None) -> bool | None:
    """Tell whether HTTP/2 is spoken in plain text; None where nothing can be said."""
    try:
        with _connected(address, proxy) as sock:
            return not _is_closed(sock)
    except TimeoutError:
        return None
    except OSError:
        return False


def _speaks_tls(address: Address, proxy: str | None) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is only asked whether TLS is spoken
    context.set_alpn_protocols(["h2"])
    with suppress(OSError), _connected(address, proxy) as sock, context.wrap_socket(sock):
        return True
    return False


def _why_tls_fails(address: Address, files: TlsFiles, proxy: str | None) -> str | None:
    try:
        context = ssl.create_default_context(cafile=files.ca)
        context.set_alpn_protocols(["h2"])
        if files.cert is not None and files.key is not None:
            context.load_cert_chain(files.cert, files.key)
    except OSError:  # they are being replaced, and the connection had what they were before
        return None
    try:
        with _connected(address, proxy) as sock, context.wrap_socket(sock, server_hostname=address.host) as secure:
            is_closed = _is_closed(secure)
    except ssl.SSLCertVerificationError:
        return None  # gRPC says so itself, and what is wrong with it
    except ssl.SSLError as error:
        return _explain(error.reason or "", has_certificate=files.cert is not None)
    except OSError:  # no way there, or no answer
        return None
    if not is_closed:
        return None
    # With TLS 1.3 the gateway looks at the certificate after the handshake, and gRPC's closes without an alert.
    return _ASKS if files.cert is None else _REFUSES.format("it closes the connection when it has seen it")


def _explain(reason: str, *, has_certificate: bool) -> str | None:
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return _SPEAKS_PLAIN
    if reason.endswith("CERTIFICATE_REQUIRED") or (not has_certificate and "HANDSHAKE_FAILURE" in reason):
        return _ASKS
    if has_certificate and "ALERT" in reason:
        return _REFUSES.format(reason.rpartition("ALERT_")[2].replace("_", " ").lower())
    return None


def _is_closed(sock: socket.socket) -> bool:
    """Tell whether the other end closes without a word, after HTTP/2's first ones."""
    sock.sendall(_HELLO)
    return not sock.recv(1)


@contextmanager
def _connected(address: Address, proxy: str | None) -> Iterator[socket.socket]:
    host, port = address.host, address.port
    if proxy is not None:
        host, _, text = proxy.rpartition(":") if ":" in proxy else (proxy, "", "80")
        port = int(text)
    with socket.create_connection((host.strip("[]"), port), timeout=PROBE_S) as sock:
        if proxy is not None:
            sock.sendall(f"CONNECT {address.text} HTTP/1.1\r\nHost: {address.text}\r\n\r\n".encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n") and len(answer) < _MAX_PROXY_ANSWER_BYTES:
                if not (data := sock.recv(1)):
                    break
                answer += data
            if answer.split(b" ")[1:2] != [b"200"]:
                raise ConnectionRefusedError("the proxy does not connect")
        yield sock


_MAX_PROXY_ANSWER_BYTES = 8192
