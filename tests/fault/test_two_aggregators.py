"""Two aggregators on one store: one leads, the other takes over when it dies or sleeps, and nothing is said twice."""

import os
import signal
import sys

import pytest
from commands import Process, wait_until
from fault import aggregator_process
from fault.rounds import (
    assert_round_is_whole,
    assert_same_model,
    contribute_three,
    is_done,
    journal_keys,
    make_federation_of,
)
from tiny_model import write_tiny_model

from coldfuse.registry.lease import read_lease

LEASE_S = 0.3
"""Lease of a leader that shall be taken for dead soon."""

LONG_LEASE_S = 5.0
"""Lease of one that shall lead until it gives it back, however busy the machine is."""

EVENTS = ("opened", "admitted", "rejected", "closed", "fused", "published")
"""Of a round; contributions that come one by one may be admitted in more than one event."""

STOPS = [
    ("opening", "before", 0),
    ("closing", "before", 6),
    ("fusing", "before", 8),
    ("saying that it fused, half written", "after", 10),
    ("publishing, half done", "before", 13),
    ("saying that it published", "before", 14),
]
"""Writes of a round, as `test_aggregator_killed.py` lists them."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def federation(base, tmp_path):
    return make_federation_of(base, tmp_path / "store")


@pytest.fixture
def start(federation, tmp_path):
    """Start an aggregator; all are killed in the end."""
    started = []

    def start_one(name: str, *strike: object, lease_s: float = LEASE_S) -> Process:
        script = aggregator_process.__file__
        started.append(Process(sys.executable, script, federation.store.url, lease_s, tmp_path / name, *strike))
        return started[-1]

    yield start_one
    for process in started:
        process.send(signal.SIGKILL)
        process.wait()


def leader(federation) -> int | None:
    """Process id of the one that holds the lease."""
    record, _ = read_lease(federation.store)
    return int(record.holder.split(":")[1]) if record is not None and record.holder else None


def wait_for_leader(federation, process: Process) -> None:
    wait_until(lambda: leader(federation) == process.pid, f"{process} to lead")


def is_waiting(process: Process) -> bool:
    return any(line.startswith("waiting: ") for line in list(process.errors))


def end(process: Process) -> None:
    process.send(signal.SIGTERM)
    process.succeed()


def test_of_two_that_start_together_one_leads_and_the_other_only_waits(federation, start, tmp_path):
    both = [start("one", lease_s=LONG_LEASE_S), start("two", lease_s=LONG_LEASE_S)]
    wait_until(lambda: leader(federation) is not None and any(map(is_waiting, both)), "one to lead and one to wait")
    sent = contribute_three(federation, tmp_path)
    wait_until(lambda: is_done(federation), "the round")
    leads, waits = both if leader(federation) == both[0].pid else reversed(both)
    end(leads)
    wait_for_leader(federation, waits)  # at once: the lease was given back
    end(waits)
    assert_round_is_whole(federation, sent)
    assert {*leads.lines} == {*(f"1 {event}" for event in EVENTS), "2 opened"}
    assert waits.lines == []


def test_after_kill_9_of_the_leader_the_other_publishes(federation, start, tmp_path):
    first = start("first")
    wait_for_leader(federation, first)
    second = start("second")
    wait_until(lambda: is_waiting(second), "the second to wait")
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert leader(federation) == first.pid  # dead, and still in the lease: nobody took it before its time
    sent = contribute_three(federation, tmp_path)
    wait_until(lambda: is_done(federation), "the round")
    end(second)
    assert_round_is_whole(federation, sent)
    assert "1 published" in second.lines
    assert len(journal_keys(federation, 2)) == 1


@pytest.mark.parametrize(("moment", "number"), [stop[1:] for stop in STOPS], ids=[stop[0] for stop in STOPS])
def test_a_leader_that_slept_beyond_its_lease_says_nothing_twice(federation, start, tmp_path, moment, number):
    sent = contribute_three(federation, tmp_path)
    first = start("first", "SIGSTOP", moment, number)
    wait_until(lambda: is_stopped(first.pid), "the leader to fall asleep")
    assert f"struck {moment} {number}" in (tmp_path / "first").read_text()
    second = start("second")
    wait_until(lambda: is_done(federation), "the round")
    published = federation.latest()

    first.send(signal.SIGCONT)
    wait_until(lambda: is_waiting(first), "the old leader to find out")
    assert leader(federation) == second.pid
    assert "1 published" in second.lines
    assert "1 published" not in first.lines
    end(first)
    end(second)

    assert_round_is_whole(federation, sent)
    assert len(journal_keys(federation, 2)) == 1
    assert federation.latest() == published
    assert_same_model(federation.release(1), published)


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T" and os.path.exists(f"/proc/{pid}")
