"""A network between a client and its gateways that misbehaves: everything that TCP lets happen to a connection."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self

_PIECE = 1 << 16
_RESET = struct.pack("ii", 1, 0)


class BadNetwork:
    """Passes connections on to gateways in turn, with the faults that are set, which may change at any time."""

    def __init__(self, *addresses: str, seed: int = 0) -> None:
        self.targets = list(addresses)
        self.cut_after_bytes: int | None = None
        """A connection is reset once so many bytes have passed in both directions; None: never."""
        self.latency_s = 0.0
        """Each piece waits so long, in each direction."""
        self.is_dribbling = False
        """Pieces are cut into pieces of random lengths."""
        self.num_connections, self.num_cut, self.num_swallowed, self.num_bytes = 0, 0, 0, 0
        self._dead: set[int] = set()
        self._pairs: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._lock, self._random = threading.Lock(), random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def swallow(self) -> None:
        """Let nothing more pass on the connections that there are, and tell neither end: both believe in them."""
        with self._lock:
            self._dead |= set(self._pairs)

    def cut(self) -> None:
        """Reset the connections that there are."""
        for pair in list(self._pairs.values()):
            self._reset(*pair)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for pair in list(self._pairs.values()):
            for end in pair:
                end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                number = self.num_connections
                self.num_connections += 1
                threading.Thread(target=self._connect, args=(client, number), daemon=True).start()

    def _connect(self, client: socket.socket, number: int) -> None:
        host, _, port = self.targets[number % len(self.targets)].rpartition(":")
        try:
            server = socket.create_connection((host, int(port)))
        except OSError:
            self._reset(client)
            return
        self._pairs[number] = (client, server)
        threading.Thread(target=self._pass, args=(number, server, client), daemon=True).start()
        self._pass(number, client, server)

    def _pass(self, number: int, source: socket.socket, target: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(_PIECE):
                time.sleep(self.latency_s)
                for piece in self._pieces(data):
                    if number in self._dead:
                        self.num_swallowed += len(piece)
                        continue
                    target.sendall(piece)
                    passed += len(piece)
                    self.num_bytes += len(piece)
                if self.cut_after_bytes is not None and passed > self.cut_after_bytes:
                    break
            else:
                if number not in self._dead:
                    target.shutdown(socket.SHUT_WR)
                return
        self.num_cut += 1
        self._reset(source, target)

    def _pieces(self, data: bytes) -> list[bytes]:
        if not self.is_dribbling:
            return [data]
        pieces = []
        while data:
            length = self._random.choice((1, 2, 3, 100, 1000, 10_000))
            pieces.append(data[:length])
            data = data[length:]
        return pieces

    @staticmethod
    def _reset(*ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                end.close()
