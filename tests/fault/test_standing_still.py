"""A leader whose tasks stand still: it gives the lease up, and another one ends its round with the same bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import wait_until
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.aggregator.watchdog import Watchdog
from coldfuse.core.round import LeaderEvent
from coldfuse.engine.execution import ThreadExecutor, WatchedExecutor
from coldfuse.engine.fuse import fuse_part
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.lease import read_lease
from coldfuse.storage import LocalStore

MODEL = make_model()
SETTINGS = AggregatorSettings(rounds=1, poll_s=0.01, lease_ttl_s=0.4)


class Hanging(ThreadExecutor):
    """Threads that hang in the last pass of a fusion until they are let go."""

    def __init__(self) -> None:
        super().__init__(1)
        self.hangs, self.go = threading.Event(), threading.Event()

    def run(self, task: Callable[..., Any], shared: Any, items: Sequence[Any], **options: Any) -> Iterator[Any]:
        if task is fuse_part:
            self.hangs.set()
            assert self.go.wait(60)
        yield from super().run(task, shared, items, **options)


class Slow(Hanging):
    """The same, but its tasks give signs of life while they take longer than anybody is patient."""

    def run(
        self, task: Callable[..., Any], shared: Any, items: Sequence[Any], *, alive: Callable[[], None], **options: Any
    ) -> Iterator[Any]:
        if task is fuse_part:
            self.hangs.set()
            while not self.go.wait(0.02):
                alive()
        yield from ThreadExecutor.run(self, task, shared, items, alive=alive, **options)


class Aggregator:
    """An aggregator in a thread."""

    def __init__(self, federation: Federation, executor: WatchedExecutor, *, patience_s: float) -> None:
        self.said: list[str] = []
        self.events: list[tuple[int, LeaderEvent]] = []
        self.stop = threading.Event()
        own = open_federation(LocalStore(federation.store.url))
        watchdog = Watchdog(patience_s)

        def serve() -> None:
            self.events += serve_rounds(
                own, executor, SETTINGS, stop=self.stop, announce=self.said.append, watchdog=watchdog
            )

        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


def renewals(federation: Federation) -> int:
    record, _ = read_lease(federation.store)
    assert record is not None
    return record.renewal


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    federation = make_federation(tmp_path, MODEL)
    lead(federation)
    for seed, name in enumerate(("ada", "ben")):
        contribute(federation, name, make_changes(MODEL, seed))
    return federation


def test_a_leader_whose_tasks_hang_is_succeeded_and_says_nothing_twice(
    federation: Federation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calm = make_federation(tmp_path / "calm", MODEL)
    lead(calm)
    for seed, name in enumerate(("ada", "ben")):
        contribute(calm, name, make_changes(MODEL, seed))
    lead(calm)
    hanging = Hanging()
    first = Aggregator(federation, hanging, patience_s=0.5)
    assert hanging.hangs.wait(60)  # the fault landed: the round is closed, and its leader stands still
    second = Aggregator(federation, ThreadExecutor(1), patience_s=60)
    wait_until(lambda: federation.latest().release == 1, "the successor's release", limit_s=30)
    assert "gives the lease up" in caplog.text
    hanging.go.set()
    first.end()
    second.end()
    assert federation.latest().model_digest == calm.latest().model_digest
    assert [event.event for _, event in first.events].count("published") == 0
    assert [event.event for _, event in second.events].count("published") == 1


def test_a_leader_whose_tasks_take_long_and_move_keeps_the_lease(federation: Federation) -> None:
    slow = Slow()
    first = Aggregator(federation, slow, patience_s=0.3)
    assert slow.hangs.wait(60)
    second = Aggregator(federation, ThreadExecutor(1), patience_s=60)
    before = renewals(federation)
    wait_until(lambda: renewals(federation) > before + 9, "renewals for three lives of the lease", limit_s=60)
    assert not any("leading" in line for line in second.said)
    assert federation.latest().release == 0
    slow.go.set()
    wait_until(lambda: federation.latest().release == 1, "the release", limit_s=30)
    first.end()
    second.end()
    assert [event.event for _, event in first.events].count("published") == 1
