"""When a call is tried again, and when it is given up."""

import grpc
import pytest

from coldfuse.errors import RoundClosedError, StorageError, TransportError
from coldfuse.transport.peer import Peer
from coldfuse.transport.retry import Cancellation, Progress, StopWhenStalled, call_with_retries
from coldfuse.transport.status import ERROR_KEY


class Failure(grpc.RpcError):
    def __init__(self, code=grpc.StatusCode.UNAVAILABLE, kind=None):
        self._code, self._kind = code, kind

    def code(self):
        return self._code

    def details(self):
        return "the sentence"

    def trailing_metadata(self):
        return () if self._kind is None else ((ERROR_KEY, self._kind),)


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def attempt(outcomes, *, stop=None, cancellation=None):
    def call():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    stop = stop or StopWhenStalled(60.0)
    return call_with_retries(call, Peer("host:1"), stop=stop, cancellation=cancellation or Cancellation())


def test_what_passes_is_tried_again():
    assert attempt([Failure(), 7]) == 7


def test_what_does_not_pass_is_raised_at_once():
    outcomes = [Failure(grpc.StatusCode.FAILED_PRECONDITION, "RoundClosedError"), 7]
    with pytest.raises(RoundClosedError, match="the sentence"):
        attempt(outcomes)
    assert outcomes == [7]


def test_a_gateway_that_stays_away_is_given_up():
    with pytest.raises(TransportError, match="host:1"):
        attempt([Failure()], stop=StopWhenStalled(0.0))


def test_a_full_disk_of_the_gateway_is_not_taken_for_ones_own():
    full = Failure(grpc.StatusCode.UNAVAILABLE, "StorageError")
    with pytest.raises(StorageError, match=r"^host:1: its store: the sentence"):
        attempt([full], stop=StopWhenStalled(0.0))


def test_the_last_try_is_made_when_patience_ends():
    clock = Clock()
    stop = StopWhenStalled(10.0, clock=clock)
    assert stop.left_s() == 10.0
    assert not stop(None)
    clock.now_s = 8.0
    assert stop.left_s() == 2.0
    clock.now_s = 12.0
    assert stop.left_s() == 0.0


def test_a_call_that_is_called_off_is_not_tried_again():
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(TransportError):
        attempt([Failure(), 7], cancellation=cancellation)


def test_time_counts_from_the_first_failure_after_the_last_progress():
    clock = Clock()
    stop = StopWhenStalled(10.0, stream_s=1000.0, clock=clock)
    clock.now_s = 500.0  # a slow transfer is no failure
    assert not stop(None)
    clock.now_s = 509.0
    assert not stop(None)
    stop.count_progress()
    clock.now_s = 520.0
    assert not stop(None)
    clock.now_s = 530.0
    assert stop(None)


def test_while_one_part_of_a_transfer_moves_the_others_may_wait():
    clock, progress = Clock(), Progress()
    refused, running = (StopWhenStalled(10.0, stream_s=1000.0, progress=progress, clock=clock) for _ in range(2))
    for clock.now_s in (0.0, 9.0, 18.0):
        assert not refused(None)
        running.count_progress()
    clock.now_s = 27.0
    assert not refused(None)
    clock.now_s = 37.0
    assert refused(None)


def test_a_link_that_breaks_for_ever_is_given_up_in_the_end():
    clock = Clock()
    stop = StopWhenStalled(10.0, stream_s=100.0, clock=clock)
    clock.now_s = 110.0
    stop.count_progress()
    assert stop(None)


def test_cancelling_reaches_running_calls_and_those_that_start_later():
    class Call:
        def __init__(self):
            self.is_cancelled = False

        def result(self):
            cancellation.cancel()
            return self.is_cancelled

        def cancel(self):
            self.is_cancelled = True

    cancellation = Cancellation()
    assert cancellation.run(Call) is True
    assert cancellation.run(Call) is True
