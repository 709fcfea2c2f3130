"""A proxy before an S3 server that reads HTTP, so that it can answer wrongly in all the ways that servers do."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from contextlib import suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Wrong(Enum):
    """What is wrong with one exchange."""

    BUSY = "503 SlowDown, and nothing took place"
    RESET = "the connection breaks before the server hears of it"
    LOST = "the connection breaks after the server has done it"
    TWICE = "the proxy sends it twice, and passes on the second answer"
    FALSE_412 = "412, and nothing took place"
    FALSE_404 = "404, and nothing took place"
    SILENT = "no answer for longer than anybody waits"
    TRUNCATED = "half of the body, and the connection breaks"
    DRIPPING = "the body comes byte by byte, and never ends"


APPLIES = {
    "PUT": (Wrong.BUSY, Wrong.RESET, Wrong.LOST, Wrong.TWICE, Wrong.FALSE_412, Wrong.FALSE_404, Wrong.SILENT),
    "GET": (Wrong.BUSY, Wrong.RESET, Wrong.FALSE_404, Wrong.SILENT, Wrong.TRUNCATED, Wrong.DRIPPING),
    "HEAD": (Wrong.BUSY, Wrong.RESET, Wrong.SILENT),
    "POST": (Wrong.BUSY, Wrong.RESET, Wrong.LOST, Wrong.SILENT),
    "DELETE": (Wrong.BUSY, Wrong.RESET, Wrong.LOST, Wrong.SILENT),
}


class FaultyProxy:
    """Passes everything on, until told what to do wrong; counts what it did, by method."""

    def __init__(self, endpoint_url: str, *, silent_s: float = 3.0) -> None:
        self.target = urlsplit(endpoint_url)
        self.silent_s = silent_s
        self.fired: Counter[tuple[str, Wrong]] = Counter()
        self._armed: dict[str, tuple[Wrong, int]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def arm(self, method: str, wrong: Wrong, *, count: int = 1) -> None:
        """Do this wrong with the next requests of a method."""
        with self._lock:
            self._armed[method] = (wrong, count)

    def heal(self) -> None:
        """Do everything right from now on."""
        with self._lock:
            self._armed.clear()

    def take(self, method: str) -> Wrong | None:
        """Say what to do wrong with a request, and count it."""
        with self._lock:
            wrong, left = self._armed.get(method, (None, 0))
            if wrong is None or left == 0:
                return None
            self._armed[method] = (wrong, left - 1)
            self.fired[method, wrong] += 1
            return wrong

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                with suppress(OSError, http.client.HTTPException):
                    _exchange(proxy, self)

            do_GET = do_HEAD = do_POST = do_DELETE = do_PUT

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _exchange(proxy: FaultyProxy, client: BaseHTTPRequestHandler) -> None:
    body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
    wrong = proxy.take(client.command)
    if wrong is Wrong.SILENT:
        time.sleep(proxy.silent_s)
    if wrong in (Wrong.RESET, Wrong.SILENT):
        client.close_connection = True
        return
    if wrong in (Wrong.BUSY, Wrong.FALSE_412, Wrong.FALSE_404):
        status, code = {
            Wrong.BUSY: (503, "SlowDown"),
            Wrong.FALSE_412: (412, "PreconditionFailed"),
            Wrong.FALSE_404: (404, "NoSuchKey"),
        }[wrong]
        data = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        _answer(client, status, [("Content-Type", "application/xml")], data, num_bytes=len(data))
        return
    for _ in range(2 if wrong is Wrong.TWICE else 1):
        status, headers, data = _ask(proxy, client, body)
    if wrong is Wrong.LOST:
        client.close_connection = True
        return
    _answer(client, status, headers, data, num_bytes=len(data) // 2 if wrong is Wrong.TRUNCATED else len(data),
            drips=wrong is Wrong.DRIPPING)  # fmt: skip


def _ask(proxy: FaultyProxy, client: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    server = http.client.HTTPConnection(proxy.target.hostname or "", proxy.target.port, timeout=30)
    try:
        server.putrequest(client.command, client.path, skip_host=True, skip_accept_encoding=True)
        for name, value in client.headers.items():  # with the host that was signed
            if name.lower() not in ("expect", "connection"):
                server.putheader(name, value)
        server.endheaders(body)
        answer = server.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        server.close()


def _answer(
    client: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], data: bytes, *, num_bytes: int,
    drips: bool = False,
) -> None:  # fmt: skip
    client.send_response_only(status)
    length = {name.lower(): value for name, value in headers}.get("content-length", str(len(data)))
    for name, value in headers:
        if name.lower() not in _HOP_BY_HOP:
            client.send_header(name, value)
    if status != 204:
        client.send_header("Content-Length", length if client.command == "HEAD" else str(len(data)))
    client.end_headers()
    if client.command == "HEAD":
        return
    if not drips:
        client.wfile.write(data[:num_bytes])
    for byte in data if drips else b"":
        client.wfile.write(bytes([byte]))
        client.wfile.flush()
        time.sleep(0.05)
    if num_bytes < len(data):
        client.close_connection = True
