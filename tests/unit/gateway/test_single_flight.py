"""One read serves all who ask at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coldfuse.errors import StorageError
from coldfuse.gateway.single_flight import SingleFlight


class Source:
    """Counts its reads, and blocks them until it is let go."""

    def __init__(self):
        self.num_reads = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def read(self):
        self.num_reads += 1
        self.begun.set()
        assert self.go_on.wait(10)
        return self.num_reads


def test_those_who_wait_share_the_next_read():
    source, clock = Source(), [0.0]
    shared = SingleFlight(source.read, clock=lambda: clock[0])
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(shared.get)
        assert source.begun.wait(10)
        clock[0] = 1.0  # they ask after the first reading began, so it is too old for them
        others = [pool.submit(shared.get) for _ in range(19)]
        source.go_on.set()
        assert first.result(10) == 1
        assert {other.result(10) for other in others} == {2}
    assert source.num_reads == 2


def test_no_caller_gets_a_value_from_before_its_call():
    values, now_s = iter(range(9)), iter(range(100))
    shared = SingleFlight(lambda: next(values), clock=lambda: next(now_s))
    assert [shared.get(), shared.get(), shared.get()] == [0, 1, 2]


def test_a_recent_value_is_not_read_again():
    values, clock = iter(range(9)), [0.0]
    shared = SingleFlight(lambda: next(values), clock=lambda: clock[0])
    assert shared.peek(max_age_s=1.0) is None
    assert shared.get() == 0
    clock[0] = 0.9
    assert (shared.get(max_age_s=1.0), shared.peek(max_age_s=1.0)) == (0, 0)
    clock[0] = 1.1
    assert shared.peek(max_age_s=1.0) is None
    assert shared.get(max_age_s=1.0) == 1


def test_a_failure_is_shared_for_as_long_as_a_value():
    outcomes, clock = iter([StorageError("the store is down"), 7]), [0.0]

    def read():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    shared = SingleFlight(read, clock=lambda: clock[0])
    for _ in range(2):
        with pytest.raises(StorageError, match="the store is down"):
            shared.get(max_age_s=1.0)
    assert shared.peek(max_age_s=1.0) is None
    clock[0] = 2.0
    assert shared.get(max_age_s=1.0) == 7
