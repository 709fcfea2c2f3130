"""A contributor that is killed while it computes statistics, or sends them: started again, nothing differs."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from commands import wait_until
from fault.slow_proxy import SlowProxy
from fault.test_contributor_killed import events, serve, start, steps
from reviews import write_reviews
from tiny_model import write_tiny_model

from coldfuse.contributor.node import Node
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import NodeFolder, WorkFolder
from coldfuse.contributor.work import Trained
from coldfuse.core.blob import Blob
from coldfuse.core.sealed import unseal
from coldfuse.core.statistics import StatisticsRule
from coldfuse.data.dataset import split
from coldfuse.data.reading import read_dataset
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.training.job import TrainingSettings

FEW = ("--epochs", 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("data") / "ada.csv", num=300)


@pytest.fixture
def federation(base: Path, tmp_path: Path) -> Federation:
    rules = {"quorum": 1, "deadline_s": 3600.0}
    return create_federation(
        LocalStore(tmp_path / "store"), name="tiny", base=base, origin="made by a test", method="fisher", rules=rules,
        statistics=StatisticsRule(kind="fisher"),
    )  # fmt: skip


def test_killed_while_it_computes_statistics_it_computes_them_again_to_the_same_bytes(
    federation: Federation, data: Path, tmp_path: Path
) -> None:
    theirs = undisturbed(federation, data, tmp_path / "other")
    with serve(federation, tmp_path) as address:
        with start(address, data, tmp_path, *FEW) as victim:
            wait_until(lambda: done_in(victim) > 0.2, "a fifth of the examples to be done", limit_s=300.0)
            victim.send(signal.SIGKILL)
            assert victim.wait() == -signal.SIGKILL
        assert done_in(victim) < 1  # the fault landed
        assert steps(victim)
        with start(address, data, tmp_path, *FEW) as second:
            second.succeed()
    assert steps(second) == []  # the training was in its checkpoint
    assert done_in(second) == 1
    ours = WorkFolder(tmp_path / "node" / "release-00000")
    assert ours.delta.read_bytes() == theirs.delta.read_bytes()
    assert ours.statistics.read_bytes() == theirs.statistics.read_bytes()
    assert [c.statistics for c in federation.latest().contributions] == ["fisher"]


def test_killed_in_the_upload_of_statistics_it_sends_only_the_rest(
    federation: Federation, data: Path, tmp_path: Path
) -> None:
    work = tmp_path / "node" / "release-00000"
    with serve(federation, tmp_path) as address, SlowProxy(address, bytes_per_s=40_000) as proxy:
        with start(proxy.address, data, tmp_path, *FEW) as victim:
            wait_until(lambda: is_sent(federation, work, 0), "the delta to be sent", limit_s=300.0)
            victim.send(signal.SIGKILL)
            assert victim.wait() == -signal.SIGKILL
        assert not is_sent(federation, work, 1)  # the fault landed before the statistics were there
        assert events(victim, "committed") == []
        proxy.bytes_per_s, proxy.num_sent = 1e9, 0
        with start(proxy.address, data, tmp_path, *FEW) as second:
            second.succeed()
    assert (events(second, "training"), events(second, "statistics")) == ([], [])
    delta, statistics = files_of(work)
    assert statistics.size_bytes <= proxy.num_sent < delta.size_bytes
    assert [c.statistics for c in federation.latest().contributions] == ["fisher"]


def undisturbed(federation: Federation, data: Path, folder: Path) -> WorkFolder:
    """Return what a node makes that nobody disturbs, with the settings that the command is given."""
    train, validation = split(read_dataset(data), seed=3)
    training = TrainingSettings(
        num_epochs=1, learning_rate=3e-3, batch_size=4, threads=1, device="cpu", seed=3
    )  # fmt: skip
    settings = NodeSettings(name="reviewer", train=train, validation=validation, training=training)
    node = Node(settings, NodeFolder(folder), StoreGateway(federation), lambda _: None, threading.Event())
    return node.prepare()[0]


def done_in(contributor) -> float:
    return max((event["done"] or 0.0 for event in events(contributor, "statistics")), default=0.0)


def files_of(work: Path) -> tuple[Blob, ...]:
    try:
        trained = unseal(Trained, (work / "trained.json").read_bytes(), what="trained.json")
        return tuple(blob for blob, _ in WorkFolder(work).files(trained))
    except FileNotFoundError:
        return ()


def is_sent(federation: Federation, work: Path, index: int) -> bool:
    """Tell whether the store has all of a node's delta (0) or statistics (1)."""
    files = files_of(work)
    return bool(files) and all(federation.objects.has(part.digest, part.size_bytes) for part in files[index].parts)
