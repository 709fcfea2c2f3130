"""HTTP/2 by hand, for what no well-behaved client does: messages that never end, headers without end, silence."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
MAX_FRAME_BYTES = 16_384


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(path: str, extra: dict[str, str] | None = None) -> bytes:
    """Write a gRPC call's headers, each as a literal without an index."""
    named = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test"}
    named |= {"te": "trailers", "content-type": "application/grpc"} | (extra or {})
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in named.items())


def _text(text: str) -> bytes:
    data, length = text.encode(), len(text)
    if length < 127:
        return bytes([length]) + data
    rest, encoded = length - 127, b"\x7f"
    while rest > 127:
        encoded, rest = encoded + bytes([rest & 127 | 128]), rest >> 7
    return encoded + bytes([rest]) + data


class RawConnection:
    """One connection that sends what it is told, and nothing else."""

    def __init__(self, address: str, *, preface: bool = True) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self._next_stream, self._heard = 1, b""
        self._windows: dict[int, int] = {}
        self._first_window = 65_535
        if preface:
            self.socket.sendall(PREFACE + frame(SETTINGS))

    def open_call(self, path: str, *, extra: dict[str, str] | None = None) -> int:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        block = headers(path, extra)
        pieces = [block[first : first + MAX_FRAME_BYTES] for first in range(0, len(block), MAX_FRAME_BYTES)]
        for number, piece in enumerate(pieces):
            flags = END_HEADERS if number == len(pieces) - 1 else 0
            self.socket.sendall(frame(CONTINUATION if number else HEADERS, piece, flags=flags, stream=stream))
        return stream

    def send(self, stream: int, data: bytes, *, within_s: float = 3.0) -> int:
        """Send as many bytes as the other end makes room for in this time, and return how many."""
        deadline, done = time.monotonic() + within_s, 0
        while done < len(data) and time.monotonic() < deadline:
            room = min(self._window(0), self._window(stream), MAX_FRAME_BYTES, len(data) - done)
            if room <= 0:
                self._hear(deadline)
                continue
            self.socket.sendall(frame(DATA, data[done : done + room], stream=stream))
            done += room
            for number in (0, stream):
                self._windows[number] = self._window(number) - room
        return done

    def _window(self, stream: int) -> int:
        return self._windows.get(stream, self._first_window if stream else 65_535)

    def _hear(self, deadline: float) -> None:
        """Take one frame, and keep what it says about room."""
        self.socket.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            while len(self._heard) < 9 or len(self._heard) < 9 + int.from_bytes(self._heard[:3], "big"):
                if not (data := self.socket.recv(1 << 16)):
                    raise ConnectionResetError("closed by the other end")
                self._heard += data
        except TimeoutError:
            return
        length, kind, flags = int.from_bytes(self._heard[:3], "big"), self._heard[3], self._heard[4]
        stream, payload = int.from_bytes(self._heard[5:9], "big"), self._heard[9 : 9 + length]
        self._heard = self._heard[9 + length :]
        if kind == WINDOW_UPDATE:
            self._windows[stream] = self._window(stream) + int.from_bytes(payload, "big")
        if kind == SETTINGS and not flags:
            self._take_settings(payload)

    def _take_settings(self, payload: bytes) -> None:
        for first in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[first : first + 6])
            if name == 4:
                change, self._first_window = value - self._first_window, value
                self._windows |= {number: room + change for number, room in self._windows.items() if number}
        self.socket.sendall(frame(SETTINGS, flags=1))

    def is_closed_within(self, timeout_s: float) -> bool:
        """Read and drop until the other end closes; False if it has not by then."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            try:
                if not self.socket.recv(1 << 16):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def message_start(declared_bytes: int, data: bytes = b"") -> bytes:
    """Begin a gRPC message that says how long it is, and bring only some of it."""
    return b"\x00" + struct.pack(">I", declared_bytes) + data


def until(condition: Callable[[], bool], *, within_s: float = 30.0) -> bool:
    """Wait for a condition; False if it does not come true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
