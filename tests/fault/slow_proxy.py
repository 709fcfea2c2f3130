"""A proxy before a gateway that lets bytes through slowly, as a thin line does, and counts them."""

import socket
import threading
import time
from contextlib import suppress
from typing import Self

_PIECE = 1 << 16


class SlowProxy:
    """Passes everything on; what clients send goes at `bytes_per_s`."""

    def __init__(self, address: str, *, bytes_per_s: float) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.bytes_per_s = bytes_per_s
        self.num_sent = 0
        self.num_clients = 0
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.num_clients += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()
            while data := client.recv(_PIECE):
                with self._lock:
                    time.sleep(len(data) / self.bytes_per_s)
                    self.num_sent += len(data)
                server.sendall(data)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(_PIECE):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
