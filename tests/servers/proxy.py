"""A proxy before an S3 server that breaks connections at chosen moments, and counts how often it did."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class BreakingProxy:
    """Passes everything on, until told to break the next answer to a method.

    The server has done its work by then: only the client does not hear of it, or not all.
    """

    def __init__(self, endpoint_url: str) -> None:
        target = urlsplit(endpoint_url)
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._method = b""
        self._num_left = 0
        self._keep_bytes = 0
        self.fired = 0
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def break_answers(self, method: str, *, count: int = 1, keep_bytes: int = 0) -> None:
        """Close the connection in the middle of the next answers to this method, after so many bytes of each."""
        with self._lock:
            self._method, self._num_left, self._keep_bytes = method.encode(), count, keep_bytes

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            methods: list[bytes] = []
            thread = threading.Thread(target=self._pass_answers, args=(server, client, methods), daemon=True)
            thread.start()
            with suppress(OSError):
                while data := client.recv(2**16):
                    if data.startswith((b"PUT /", b"GET /", b"HEAD /", b"POST /", b"DELETE /")):
                        methods[:] = [data.split(b" ", 1)[0]]
                    server.sendall(data)
                server.shutdown(socket.SHUT_WR)
            thread.join()

    def _pass_answers(self, server: socket.socket, client: socket.socket, methods: list[bytes]) -> None:
        with suppress(OSError):
            while data := server.recv(2**16):
                if not data.startswith(b"HTTP/1.1 100") and self._must_break(methods[0]):
                    client.sendall(data[: self._keep_bytes])
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def _must_break(self, method: bytes) -> bool:
        with self._lock:
            if method != self._method or self._num_left == 0:
                return False
            self._num_left -= 1
            self.fired += 1
            return True
