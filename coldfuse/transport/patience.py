"""How long a call may take, how often it is tried, and how it is called off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from coldfuse.transport.address import Address
from coldfuse.transport.status import from_rpc_error, is_passing

logger = logging.getLogger(__name__)

T = TypeVar("T")
A_co = TypeVar("A_co", covariant=True)

CALL_S = 30.0
"""Deadline of a call that carries little."""

FLOOR_BYTES_PER_S = 16 << 10
"""The slowest link that an upload or download survives."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0


class RunningCall(Protocol[A_co]):
    """A call in flight, as gRPC's `.future` returns it."""

    def result(self) -> A_co:
        """Wait for the answer."""

    def cancel(self) -> object:
        """Call it off."""


class Cancellation:
    """Calls off whatever runs or waits under it, from another thread."""

    def __init__(self) -> None:
        self.event = threading.Event()
        """Set once everything is called off."""
        self._running: set[RunningCall[object]] = set()
        self._lock = threading.Lock()

    def run(self, start: Callable[[], RunningCall[T]]) -> T:
        """Start a call and wait for its answer."""
        with self._lock:
            call = start()
            self._running.add(call)
            if self.event.is_set():
                call.cancel()
        try:
            return call.result()
        finally:
            with self._lock:
                self._running.discard(call)

    def cancel(self) -> None:
        """Call everything off, now and later."""
        self.event.set()
        with self._lock:
            for call in self._running:
                call.cancel()


@dataclass
class Moved:
    """How often bytes have moved, in all streams of one transfer: while one gets through, the others may wait."""

    count: int = 0


class Patience(stop_base):
    """Decides when to give up: nothing moved for `patience_s` after a failure, or the whole took far too long.

    A link that is slow or keeps breaking is used for as long as bytes arrive; a gateway that is gone is not waited for
    as long as the transfer might have taken.
    """

    def __init__(
        self,
        patience_s: float,
        *,
        stream_s: float = 0.0,
        moved: Moved | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the patience, how long the transfer itself may take, and what else counts as its progress."""
        self._patience_s = patience_s
        self._clock = clock
        self._end_s = clock() + patience_s + stream_s
        self._failing_since_s: float | None = None
        self._moved = moved or Moved()
        self._moved_before = self._moved.count

    def renew(self) -> None:
        """Say that bytes have moved."""
        self._moved.count += 1  # unlocked: whichever thread loses, the number differs from what it was

    def __call__(self, _: RetryCallState) -> bool:
        """Tell, after a failure, whether to give up."""
        now_s = self._clock()
        if self._failing_since_s is None or self._moved.count != self._moved_before:
            self._failing_since_s, self._moved_before = now_s, self._moved.count
        return now_s - self._failing_since_s >= self._patience_s or now_s >= self._end_s


def stream_deadline_s(num_bytes: int, *, parallel: int = 1) -> float:
    """Return how long a stream may take when `parallel` of them share the slowest link.

    >>> stream_deadline_s(16 << 20, parallel=4)
    4126.0
    """
    return CALL_S + num_bytes * parallel / FLOOR_BYTES_PER_S


def patiently(call: Callable[[], T], address: Address, *, patience: Patience, cancellation: Cancellation) -> T:
    """Call until it succeeds, fails for good, or patience has run out; raise errors of `errors.py` only.

    Waits grow with jitter, so that the nodes of a federation do not return all at once to a gateway that starts again.
    """
    retrying = Retrying(
        retry=retry_if_exception(is_passing),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=patience | stop_when_event_set(cancellation.event),
        sleep=sleep_using_event(cancellation.event),
        before_sleep=lambda state: _log(state, address),
        reraise=True,
    )
    try:
        return retrying(call)
    except grpc.RpcError as error:
        raise from_rpc_error(error, address.text) from error


def _log(state: RetryCallState, address: Address) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, grpc.RpcError):
        logger.info("try %d failed, another follows: %s", state.attempt_number, from_rpc_error(error, address.text))
