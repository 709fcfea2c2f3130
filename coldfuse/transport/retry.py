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

from coldfuse.errors import ColdfuseError, StorageError, TransportError
from coldfuse.transport.peer import Peer
from coldfuse.transport.status import BrokenStreamError, from_rpc_error, is_closed_on_us, is_transient, retry_after_s

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
class Progress:
    """How often bytes have moved, in all streams of one transfer: while one gets through, the others may wait."""

    count: int = 0


class StopWhenStalled(stop_base):
    """Decides when to give up: nothing moved for `retry_s` after a failure, or the whole took far too long.

    A link that is slow or keeps breaking is used for as long as bytes arrive; a gateway that is gone is not waited for
    as long as the transfer might have taken.
    """

    def __init__(
        self,
        retry_s: float,
        *,
        stream_s: float = 0.0,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start to measure.

        Args:
            retry_s: Seconds without progress after which a call is not tried again.
            stream_s: Seconds that the transfer itself may take.
            progress: Counts what other streams of the same transfer move, too.
            clock: Tells the time in seconds.
        """
        self._retry_s = retry_s
        self._clock = clock
        self._end_s = clock() + retry_s + stream_s
        self._failing_since_s: float | None = None
        self._progress = progress or Progress()
        self._seen_count = self._progress.count

    def count_progress(self) -> None:
        """Take note that bytes have moved."""
        self._progress.count += 1  # unlocked: whichever thread loses, the number differs from what it was

    def left_s(self) -> float:
        """Return how many seconds are left, if nothing moves: the last try is made at their end."""
        since_s = self._clock() if self._failing_since_s is None else self._failing_since_s
        return max(since_s + self._retry_s - self._clock(), 0.0)

    def __call__(self, _: RetryCallState) -> bool:
        """Tell, after a failure, whether to give up."""
        now_s = self._clock()
        if self._failing_since_s is None or self._progress.count != self._seen_count:
            self._failing_since_s, self._seen_count = now_s, self._progress.count
        return now_s - self._failing_since_s >= self._retry_s or now_s >= self._end_s


def stream_deadline_s(num_bytes: int, *, parallel: int = 1) -> float:
    """Return how long a stream may take when `parallel` of them share the slowest link.

    >>> stream_deadline_s(16 << 20, parallel=4)
    4126.0
    """
    return CALL_S + num_bytes * parallel / FLOOR_BYTES_PER_S


def call_with_retries(call: Callable[[], T], peer: Peer, *, stop: StopWhenStalled, cancellation: Cancellation) -> T:
    """Call until it succeeds, fails for good, or is given up; raise errors of `errors.py` only.

    Waits grow with jitter, so that the nodes of a federation do not return all at once to a gateway that starts again.

    Args:
        call: Makes one gRPC call.
        peer: The gateway; it is told of each failure that is followed by another try.
        stop: Decides after each failure whether to give up.
        cancellation: Ends a wait at once, and lets nothing be tried again.
    """
    looked: list[str] = []  # what the ends disagree on, once that was looked for: it is asked at the first failure only

    def may_pass(error: BaseException) -> bool:
        if not is_transient(error):
            return False
        if is_closed_on_us(error) and not looked:
            looked.append(peer.find_disagreement() or "")
        return not any(looked)

    growing = wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)
    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        wait=lambda state: min(max(growing(state), _hint_s(state)), stop.left_s()),
        stop=stop | stop_when_event_set(cancellation.event),
        sleep=sleep_using_event(cancellation.event),
        before_sleep=lambda state: _say(state, peer),
        reraise=True,
    )
    try:
        return retrying(call)
    except grpc.RpcError as error:
        if any(looked):
            raise TransportError(f"{peer.text}: cannot be spoken to: {looked[0]}") from error
        raise _translated(error, peer) from error


def _hint_s(state: RetryCallState) -> float:
    """Return how long the gateway asks to wait, if it does."""
    error = state.outcome.exception() if state.outcome else None
    return retry_after_s(error) if isinstance(error, grpc.RpcError) else 0.0


def _translated(error: grpc.RpcError, peer: Peer) -> ColdfuseError:
    ours = from_rpc_error(error, peer)
    if type(ours) is StorageError:  # a full disk: its reader must not look at a disk of their own
        return StorageError(f"{peer.text}: its store: {ours}")
    return ours


def _say(state: RetryCallState, peer: Peer) -> None:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, grpc.RpcError | BrokenStreamError):
        return
    trouble = _translated(error, peer) if isinstance(error, grpc.RpcError) else error
    logger.info("try %d failed, another follows: %s", state.attempt_number, trouble)
    if peer.on_trouble is not None:
        peer.on_trouble(trouble)
