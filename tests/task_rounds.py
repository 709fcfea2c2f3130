"""Nodes of any task and an aggregator in one process: real rounds on tiny models, without a network."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.contributor.events import NodeEvent
from coldfuse.contributor.node import Node
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import NodeFolder
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore
from coldfuse.training.job import TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import DataRequest

TRAINING = TrainingSettings(
    num_epochs=2, batch_size=8, learning_rate=3e-3, max_length=32, threads=1, device="cpu", patience=3
)
_POLL_S = 0.02


@contextmanager
def aggregating(federation: Federation) -> Iterator[None]:
    """Lead the federation's rounds in a thread, for as long as the context lasts."""
    stop = threading.Event()
    own = open_federation(LocalStore(federation.store.url))
    settings = AggregatorSettings(poll_s=_POLL_S)

    def serve() -> None:
        for _ in serve_rounds(own, ThreadExecutor(1), settings, stop=stop):
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def make_node(
    federation: Federation, name: str, data: Path, *, task: str, folder: Path, body: Path | None = None
) -> tuple[Node, list[NodeEvent]]:
    """Make a node of a task with data in a file, and the list of what it reports; `body` is a shared module's."""
    kind = find_task(task)
    train, validation = set_apart(kind, kind.read(DataRequest(data=data)), seed=0)
    settings = NodeSettings(name=name, train=train, validation=validation, training=TRAINING, task=kind, body=body)
    events: list[NodeEvent] = []
    return Node(settings, NodeFolder(folder / name), StoreGateway(federation), events.append, threading.Event()), events


def play_round(nodes: Mapping[str, tuple[Node, list[NodeEvent]]]) -> dict[str, tuple[float, float]]:
    """Have every node contribute once, one after the other; return each one's score before and after.

    The last one waits for what the round makes of it.
    """
    scores = {}
    for place, (name, (node, events)) in enumerate(nodes.items(), start=1):
        node.contribute(wait_for_release=place == len(nodes))
        score = [event.score for event in events if event.phase == "trained"][-1]
        assert score is not None
        scores[name] = (score.before, score.after)
    return scores
