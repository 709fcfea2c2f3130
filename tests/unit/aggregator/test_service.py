from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_rounds import contribute, make_changes, make_federation, make_model

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import ConflictError, StorageError
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal
from coldfuse.registry.lease import Lease, read_lease

MODEL = make_model()
SETTINGS = AggregatorSettings(rounds=2, poll_s=0.005, lease_ttl_s=0.3)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return make_federation(tmp_path, MODEL)


def serve(federation: Federation, settings: AggregatorSettings = SETTINGS) -> Iterator[tuple[int, str]]:
    """Serve, and contribute to every round that opens."""
    stop = threading.Event()
    for number, event in serve_rounds(federation, ThreadExecutor(1), settings, stop=stop):
        if event.event == "opened":
            for seed, name in enumerate(("ada", "ben")):
                contribute(federation, name, make_changes(MODEL, seed))
        yield number, event.event


def test_round_follows_round_until_enough_are_published(federation: Federation) -> None:
    seen = list(serve(federation))
    one_round = ["opened", "admitted", "closed", "fused", "published"]
    assert seen == [(number, event) for number in (1, 2) for event in one_round]
    assert federation.latest().release == 2
    assert read_lease(federation.store)[0].holder == ""  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [StorageError("injected"), ConflictError("injected")])
def test_a_failing_store_is_tried_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: StorageError
) -> None:
    failures = [error] * 3
    real = Journal.append

    def append(self: Journal, event) -> None:
        if event.event == "closed" and failures:
            raise failures.pop()
        real(self, event)

    monkeypatch.setattr(Journal, "append", append)
    assert [event for _, event in serve(federation)].count("published") == 2
    assert failures == []
    assert "injected" in caplog.text


def test_a_waiting_aggregator_takes_over_when_the_leader_goes(federation: Federation) -> None:
    leader = Lease(federation.store, ttl_s=30)
    assert leader.try_acquire() is None
    threading.Timer(0.1, leader.release).start()
    assert next(serve(federation)) == (1, "opened")


def test_a_stopped_aggregator_ends_while_it_waits(federation: Federation) -> None:
    stop = threading.Event()
    leader = Lease(federation.store, ttl_s=30)
    assert leader.try_acquire() is None
    threading.Timer(0.05, stop.set).start()
    assert list(serve_rounds(federation, ThreadExecutor(1), SETTINGS, stop=stop)) == []
    leader.release()


def test_a_successor_finishes_what_was_published_but_not_written_down(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Journal.append

    def die(self: Journal, event) -> None:
        if event.event == "published":
            raise KeyboardInterrupt
        real(self, event)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", die)
        with pytest.raises(KeyboardInterrupt):
            list(serve(federation))
    assert federation.latest().release == 1
    assert (1, "published") in list(serve(federation))
    assert federation.journal(1).state().published is not None
    assert federation.latest().release == 2


def test_an_aggregator_ends_with_the_release_that_it_was_told_whoever_published_it(federation: Federation) -> None:
    until = AggregatorSettings(until=2, poll_s=0.005, lease_ttl_s=0.3)
    assert list(serve(federation, until))[-1] == (2, "published")
    assert list(serve(federation, until)) == []
