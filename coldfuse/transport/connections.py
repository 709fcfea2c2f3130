"""Connections that say nothing make room for those that do.

gRPC takes so many connections and no more, whoever has them, and closes a silent one after a while. That while is
enough for one caller to have all of them. So where most are taken, the most silent ones of whoever has the most are
closed at once; a node that was only waiting connects again with its next call.

Others bring more than any call needs: headers without end, which gRPC keeps. They are closed, however many there are.

Linux tells what is needed of each socket. Elsewhere nothing is done, and silent connections are closed in their time.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from coldfuse.transport.callers import caller_of
from coldfuse.transport.traffic import Place, Traffic, place_of

logger = logging.getLogger(__name__)

SILENT_S = 2.0
"""A connection on which something came or went within this time is not silent."""

_CROWDED = 0.75
"""Share of the connections from which on silent ones are closed."""

_LOOK_EVERY_S = 0.2
_PAUSE_FOR_WORK = 30.0
"""Pauses are at least so much longer than the looks: that is what many connections cost."""

_FILES = "/proc/self/fd"
_TCP_INFO_BYTES = 136
_LAST_SENT_AT, _LAST_RECEIVED_AT = 44, 52
"""Places of tcpi_last_data_sent and tcpi_last_data_recv, in milliseconds, in Linux's struct tcp_info."""

_SENT_AT, _RECEIVED_AT = 120, 128
"""Places of tcpi_bytes_acked and tcpi_bytes_received."""


@dataclass(frozen=True)
class Connection:
    """A connection, as the system sees it."""

    file: int
    place: Place
    silent_s: float
    """Seconds since something came or went."""
    sent_bytes: int = 0
    """Number of bytes that the other end has taken."""
    received_bytes: int = 0
    """Number of bytes that came."""

    @property
    def caller(self) -> str:
        """Who shares limits."""
        host = self.place[0]
        return caller_of(f"ipv6:[{host}]:0" if ":" in host else f"ipv4:{host}:0")


class Doorkeeper:
    """Watches the connections of one listening port, in a thread."""

    def __init__(self, port: int, traffic: Traffic, *, max_connections: int) -> None:
        self._port = port
        self._traffic = traffic
        self._enough = int(_CROWDED * max_connections)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gateway-door", daemon=True)

    def start(self) -> None:
        """Begin, where the system tells what is needed."""
        if os.path.isdir(_FILES) and hasattr(socket, "TCP_INFO"):
            self._thread.start()

    def close(self) -> None:
        """End."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        pause_s = _LOOK_EVERY_S
        while not self._ended.wait(pause_s):
            began_s = time.thread_time()
            connections = list(find_connections(self._port))
            noisy = [each for each in connections if not self._is_explained(each)]
            silent = choose_silent(connections, num_most=self._enough)
            for each in (*noisy, *silent):
                _shut(each, self._port)
            self._traffic.forget({each.place for each in connections})
            pause_s = max(_LOOK_EVERY_S, _PAUSE_FOR_WORK * (time.thread_time() - began_s))
            if noisy:
                callers = ", ".join(sorted({each.caller for each in noisy}))
                logger.warning("closed %d connections that bring what no call needs, from %s", len(noisy), callers)
            if silent:
                logger.warning("%d connections: closed the %d most silent ones", len(connections), len(silent))

    def _is_explained(self, connection: Connection) -> bool:
        sent, received = connection.sent_bytes, connection.received_bytes
        return self._traffic.is_explained(connection.place, received=received, sent=sent)


def choose_silent(connections: Sequence[Connection], *, num_most: int) -> list[Connection]:
    """Return which connections to close, so that `num_most` are left: silent ones, one by one of who has most.

    >>> a, b = ("10.0.0.1", 1), ("10.0.0.2", 1)
    >>> silent = [Connection(1, a, 9.0), Connection(2, a, 5.0), Connection(3, b, 60.0), Connection(4, a, 0.1)]
    >>> [each.file for each in choose_silent(silent, num_most=2)]
    [1, 2]
    """
    num_of = Counter(each.caller for each in connections)
    silent: dict[str, list[Connection]] = {}
    for each in sorted(connections, key=lambda each: each.silent_s):
        if each.silent_s >= SILENT_S:
            silent.setdefault(each.caller, []).append(each)
    chosen: list[Connection] = []
    while silent and len(connections) - len(chosen) > num_most:
        greediest = max(silent, key=lambda caller: (num_of[caller], silent[caller][-1].silent_s))
        chosen.append(silent[greediest].pop())
        num_of[greediest] -= 1
        if not silent[greediest]:
            del silent[greediest]
    return chosen


def find_connections(port: int) -> Iterator[Connection]:
    """Find this process's connections that came in at a port."""
    for name in os.listdir(_FILES):
        with suppress(OSError), _opened(int(name)) as sock:  # closed meanwhile, or no socket
            if (place := _place(sock, port)) is not None:
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
                sent_ms, received_ms = (
                    struct.unpack_from("I", info, at)[0] for at in (_LAST_SENT_AT, _LAST_RECEIVED_AT)
                )
                sent, received = (struct.unpack_from("Q", info, at)[0] for at in (_SENT_AT, _RECEIVED_AT))
                yield Connection(int(name), place, min(sent_ms, received_ms) / 1000, sent, received)


def _shut(connection: Connection, port: int) -> None:
    """End a connection under gRPC's hands, which sees it as closed by the other end."""
    with suppress(OSError), _opened(connection.file) as sock:
        if _place(sock, port) == connection.place:  # the number may be another socket's by now
            sock.shutdown(socket.SHUT_RDWR)


def _opened(file: int) -> socket.socket:
    """Return a socket object of its own for a descriptor that belongs to gRPC. Raises `OSError` if it is no socket."""
    copy = os.dup(file)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _place(sock: socket.socket, port: int) -> Place | None:
    """Return the other end; None for a socket that is none of the port's connections."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.getsockname()[1] != port:
        return None
    host, other_port = sock.getpeername()[:2]
    return place_of(f"ipv6:[{host}]:{other_port}" if ":" in host else f"ipv4:{host}:{other_port}")
