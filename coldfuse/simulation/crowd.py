"""Many visits, each when it is due, from one process. A simulation has a few of these."""

from __future__ import annotations

import heapq
import itertools
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from coldfuse.core.schema import Schema
from coldfuse.errors import ColdfuseError
from coldfuse.gateway import Status
from coldfuse.simulation.deltas import DeltaMaker, known_ones
from coldfuse.simulation.plan import Contributor, Crowd, Visit
from coldfuse.simulation.visit import End, Outcome, make_visit
from coldfuse.transport.client import GatewayClient

_LOOK_S = 0.1
"""Seconds between two looks at the federation's status, which the gateway answers from memory."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one process of the crowd is to do."""

    crowd: Crowd
    part: int
    num_parts: int
    """Contributors whose number has this rest are this part's."""
    addresses: Sequence[str]
    """Gateways, of which each contributor has one."""
    schema: Schema
    num_rounds: int
    clients: int
    """Number of contributors that are at it at a time."""
    shared_delta: bool = False
    """True where everybody sends the same delta."""


@dataclass(frozen=True, kw_only=True)
class Idle:
    """A process of the crowd has nothing under way, and knows nothing that is still to come."""

    round: int
    """Newest round that it has gone to."""


@contextmanager
def crowd_process(share: Share) -> Iterator[Connection]:
    """Run a part of the crowd in a process, whose outcomes come out of the pipe; it ends when the pipe is closed."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, share))
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join(timeout=15)
        process.kill()


def _run(connection: Connection, share: Share) -> None:
    with suppress(KeyboardInterrupt, BrokenPipeError, ConnectionResetError):  # the simulation is over
        _Part(connection, share).run()


@dataclass(order=True)
class _Due:
    """A visit that waits for its time; equal times go in order."""

    at_s: float
    order: int
    visit: Visit = field(compare=False)
    status: Status = field(compare=False)
    is_back: bool = field(compare=False, default=False)


class _Part:
    def __init__(self, connection: Connection, share: Share) -> None:
        self._connection, self._share = connection, share
        everybody = share.crowd.contributors()
        self._mine = [c for c in everybody if c.number % share.num_parts == share.part]
        self._maker = DeltaMaker(share.schema, share.crowd.seed, known_ones(everybody), is_shared=share.shared_delta)
        self._everybody: Sequence[Contributor] = everybody
        self._due: list[_Due] = []
        self._order = itertools.count()
        self._running: dict[Future[Outcome], _Due] = {}
        self._round = 0
        self._served: set[tuple[int, str]] = set()
        """Contributors and the model digest of the base that they have an acknowledged contribution to."""
        self._was_idle = False

    def run(self) -> None:
        looker = self._share.addresses[self._share.part % len(self._share.addresses)]
        with ThreadPoolExecutor(self._share.clients) as pool, GatewayClient(looker, retry_s=60.0) as client:
            while not self._connection.poll():  # what comes is the end
                with suppress(ColdfuseError):  # the gateway is away for a moment
                    self._look(client.status())
                self._begin(pool)
                self._take()
                self._say_idle()
                threading.Event().wait(_LOOK_S if not self._running else 0.01)

    def _look(self, status: Status) -> None:
        number = status.round.number
        if not status.round.is_open or not self._round < number <= self._share.num_rounds:
            return
        self._round, now_s = number, time.monotonic()
        mine = {contributor.number for contributor in self._mine}
        for visit in self._share.crowd.visits(self._everybody, number):
            if visit.contributor.number in mine:
                self._put(visit, status, now_s + visit.after_s)

    def _put(self, visit: Visit, status: Status, at_s: float, *, is_back: bool = False) -> None:
        heapq.heappush(self._due, _Due(at_s, next(self._order), visit, status, is_back))

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        """Begin what is due, as far as clients are free: the others queue, as people do whose network is shared."""
        while self._due and self._due[0].at_s <= time.monotonic() and len(self._running) < self._share.clients:
            due = heapq.heappop(self._due)
            number = due.visit.contributor.number
            if (number, due.status.latest.model_digest) in self._served:
                continue  # its contribution was carried on: a node does not train on the same base twice
            address = self._share.addresses[number % len(self._share.addresses)]
            run = pool.submit(make_visit, due.visit, due.status, self._maker, address, crashes=not due.is_back)
            self._running[run] = due

    def _take(self) -> None:
        for run in [run for run in self._running if run.done()]:
            due, outcome = self._running.pop(run), run.result()
            if outcome.end is End.ACKNOWLEDGED:
                self._served.add((outcome.contributor, due.status.latest.model_digest))
            if outcome.end is End.CRASHED and due.visit.returns_after_s is not None:
                self._put(due.visit, due.status, time.monotonic() + due.visit.returns_after_s, is_back=True)
            self._connection.send(outcome)
            self._was_idle = False

    def _say_idle(self) -> None:
        is_idle = not self._due and not self._running
        if is_idle and not self._was_idle:
            self._connection.send(Idle(round=self._round))
        self._was_idle = is_idle
