"""Gateways and an aggregator, each a process of its own that counts its store operations and says what happens.

They are what `coldfuse gateway` and `coldfuse aggregator` run. A process ends when its end of the pipe closes, so none
outlives the simulation, not even its `kill -9`.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol, cast

import psutil

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.config import prepare_ray
from coldfuse.core.round import LeaderEvent
from coldfuse.engine.execution import ThreadExecutor, WatchedExecutor, ray_executor
from coldfuse.errors import ColdfuseError, TransportError
from coldfuse.processes import stop_on_signals
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.simulation.counting import CountedStore
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.stores import give_store, store_at
from coldfuse.transport.server import GatewaySettings, serve_gateway

Wrap = Callable[[ObjectStore], ObjectStore]

_START_TIMEOUT_S = 90.0
_ANSWER_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Happening:
    """An entry of a round's journal, and when the aggregator wrote it."""

    at_s: float
    """Seconds since 1970."""
    round: int
    kind: str
    """Kind of the entry, as the journal calls it."""
    count: int
    """Number of verdicts in it; 0 where it has none."""
    reason: str
    """Reason in it, for people."""

    @classmethod
    def of(cls, round_number: int, event: LeaderEvent) -> Happening:
        """Say in short what was written now."""
        count = len(getattr(event, "admissions", ())) + len(getattr(event, "rejections", ()))
        reason = str(getattr(event, "reason", ""))
        return cls(at_s=time.time(), round=round_number, kind=event.event, count=count, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """How the aggregator of a simulation fuses."""

    num_workers: int = 2
    on_ray: bool = True
    """False to fuse on threads of the aggregator: then its store operations are counted with those of its tasks."""
    poll_s: float = 0.5


class Server:
    """A process that serves the federation, seen from the simulation."""

    def __init__(self, process: _Process, connection: Connection, name: str) -> None:
        self.name = name
        self._process, self._connection = process, connection
        self._lock = threading.Lock()
        self.happenings: list[Happening] = []
        """What the aggregator has done so far; empty for a gateway. `listen` brings it up to date."""
        self.address = ""

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.is_alive()

    def memory_mib(self) -> float:
        """Return the memory of the process and its children; what several share is counted once."""
        try:
            tree = [process := psutil.Process(self._process.pid), *process.children(recursive=True)]
            return sum(_memory_bytes(process) for process in tree) / 2**20
        except psutil.Error:  # it ended
            return 0.0

    def cpu_s(self) -> float:
        """Return the processor time of the process and its children so far."""
        try:
            tree = [process := psutil.Process(self._process.pid), *process.children(recursive=True)]
            return sum(_cpu_s(process) for process in tree)
        except psutil.Error:  # it ended
            return 0.0

    def resident_mib(self, *, at_most: bool = False) -> float:
        """Return the resident memory of the process alone; what it was at its most, if asked for."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines()
        field = "VmHWM" if at_most else "VmRSS"
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    def counts(self) -> dict[str, int]:
        """Ask for the number of store operations so far, by name."""
        with self._lock:
            self._connection.send("counts")
            return cast("dict[str, int]", self._receive(dict))

    def listen(self) -> list[Happening]:
        """Take what the aggregator has said since, and return everything."""
        with self._lock:
            while self._connection.poll():
                self._take(self._connection.recv())
        return self.happenings

    def start(self) -> None:
        """Wait until it serves. Raises `ColdfuseError` with its reason if it cannot."""
        self.address = cast("str", self._receive(str, timeout_s=_START_TIMEOUT_S))

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        self._process.join(timeout=15)
        self._process.kill()

    def _receive(self, kind: type, *, timeout_s: float = _ANSWER_TIMEOUT_S) -> object:
        end_s = time.monotonic() + timeout_s
        while self._connection.poll(max(end_s - time.monotonic(), 0)):
            try:
                said = self._connection.recv()
            except EOFError:
                raise ColdfuseError(f"the {self.name} ended; its last words are above") from None
            if isinstance(said, ColdfuseError):
                raise said
            if isinstance(said, kind):
                return said
            self._take(said)
        raise TransportError(f"the {self.name} said nothing for {timeout_s:.0f} s; is the machine busy?")

    def _take(self, said: object) -> None:
        if isinstance(said, ColdfuseError):
            raise said
        if isinstance(said, Happening):
            self.happenings.append(said)


class _Process(Protocol):
    """What is used of a process."""

    pid: int

    def is_alive(self) -> bool: ...

    def join(self, timeout: float | None = None) -> None: ...

    def kill(self) -> None: ...


@contextmanager
def gateway_process(
    store_url: str, settings: GatewaySettings | None = None, *, wrap: Wrap | None = None
) -> Iterator[Server]:
    """Run a gateway on a store.

    Args:
        store_url: The store.
        settings: How the gateway listens, and how much it does at a time.
        wrap: Called in the process with its store, returns the store that is served instead.
    """
    with _process("gateway", _serve_gateway, store_url, settings or GatewaySettings(), wrap) as server:
        yield server


@contextmanager
def aggregator_process(store_url: str, aggregation: Aggregation) -> Iterator[Server]:
    """Run an aggregator on a store."""
    with _process("aggregator", _serve_rounds, store_url, aggregation, None) as server:
        yield server


@contextmanager
def _process(
    name: str, target: Callable[..., None], store_url: str, settings: object, wrap: Wrap | None
) -> Iterator[Server]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, target, store_url, settings, wrap))
    process.start()
    there.close()
    server = Server(cast("_Process", process), here, name)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _run(
    connection: Connection, target: Callable[..., None], store_url: str, settings: object, wrap: Wrap | None
) -> None:
    store = CountedStore(wrap(store_at(store_url)) if wrap else store_at(store_url))
    give_store(store)
    store_at.cache_clear()
    stop = stop_on_signals()
    try:
        target(connection, open_federation(store), store, settings, stop)
    except ColdfuseError as error:
        with suppress(OSError):  # the simulation may have been killed meanwhile
            connection.send(error)


def _answer(connection: Connection, store: CountedStore, lock: threading.Lock) -> None:
    """Answer questions until the simulation closes its end."""
    while True:
        try:
            connection.recv()
        except (EOFError, OSError):
            return
        with lock:
            connection.send(store.counts())


def _serve_gateway(
    connection: Connection, federation: Federation, store: CountedStore, settings: GatewaySettings, _: threading.Event
) -> None:
    with serve_gateway(federation, settings) as gateway:
        connection.send(gateway.address)
        _answer(connection, store, threading.Lock())


def _serve_rounds(
    connection: Connection, federation: Federation, store: CountedStore, how: Aggregation, stop: threading.Event
) -> None:
    lock = threading.Lock()

    def answer() -> None:
        _answer(connection, store, lock)
        stop.set()

    with _executor(how) as executor:
        stop_on_signals(stop)  # Ray has taken SIGTERM
        connection.send("aggregating")
        threading.Thread(target=answer, daemon=True).start()
        settings = AggregatorSettings(poll_s=how.poll_s)
        for number, event in serve_rounds(federation, executor, settings, stop=stop):
            with lock, suppress(OSError):  # the simulation may be over
                connection.send(Happening.of(number, event))


def _executor(how: Aggregation) -> AbstractContextManager[WatchedExecutor]:
    if not how.on_ray:
        return nullcontext(ThreadExecutor(how.num_workers))
    prepare_ray()
    return ray_executor(None, num_cpus=how.num_workers, instead="give --threads")


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        return times.user + times.system
    except psutil.Error:
        return 0.0


def _memory_bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.Error:
        return 0
