"""A node fetches a base and trains it, with real files; transfers to a gateway have tests of their own."""

import threading

import pytest
import torch
from reviews import write_reviews
from safetensors.torch import load_file
from tiny_model import write_tiny_model

from coldfuse.contributor.events import StoppedError
from coldfuse.contributor.node import Node
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import NodeFolder
from coldfuse.data.dataset import split
from coldfuse.data.reading import read_dataset
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.storage import LocalStore
from coldfuse.training.head import read_head
from coldfuse.training.job import TrainingSettings

SETTINGS = TrainingSettings(num_epochs=1, batch_size=8, learning_rate=3e-3, threads=1, device="cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    base = write_tiny_model(folder / "base")
    rules = {"quorum": 1, "deadline_s": 60.0}
    store = LocalStore(folder / "store")
    return StoreGateway(create_federation(store, name="tiny", base=base, origin="test", method="mean", rules=rules))


@pytest.fixture
def make_node(source, tmp_path):
    train, validation = split(read_dataset(write_reviews(tmp_path / "ada.csv", num=40)), seed=0)

    def make(training=SETTINGS, stop=None, gateway=source):
        settings = NodeSettings(name="ada", train=train, validation=validation, training=training)
        events = []
        node = Node(settings, NodeFolder(tmp_path / "node"), gateway, events.append, stop or threading.Event())
        return node, events

    return make


def test_another_federation_in_the_place_of_the_first_is_said(make_node, tmp_path):
    node, _ = make_node()
    node.prepare()
    rules = {"quorum": 1, "deadline_s": 60.0}
    other = create_federation(
        LocalStore(tmp_path / "other"), name="other", base=node.folder.base, origin="test", method="mean", rules=rules
    )
    again, events = make_node(gateway=StoreGateway(other))
    again.prepare()
    [said] = [event.message for event in events if event.phase == "changed"]
    assert said.startswith(f"another federation: {other.settings.federation[:12]}")


def test_what_is_trained_once_is_not_trained_again_by_a_node_that_was_ended(make_node, tmp_path):
    node, events = make_node()
    work, trained = node.prepare()
    assert list(dict.fromkeys(event.phase for event in events)) == ["fetching", "training", "trained"]
    assert events[-1].score == trained.score

    again, more = make_node()
    assert again.prepare()[1] == trained
    assert more == []

    names = sorted(path.name for path in work.path.iterdir())
    assert names == ["delta.safetensors", "head.safetensors", "trained.json"]
    head, labels = read_head(work.head)
    assert (tuple(head.weight.shape), labels) == ((2, 32), ("negative", "positive"))
    delta = load_file(work.delta)
    assert trained.delta.size_bytes == work.delta.stat().st_size
    assert all(torch.isfinite(tensor).all() and tensor.any() for tensor in delta.values())

    other, events = make_node(TrainingSettings(num_epochs=1, batch_size=4, threads=1, device="cpu"))
    assert other.prepare()[1].delta != trained.delta
    assert "training" in [event.phase for event in events]


def test_a_node_that_is_asked_to_stop_ends_where_it_is(make_node):
    stop = threading.Event()
    stop.set()
    node, _ = make_node(stop=stop)
    with pytest.raises(StoppedError):
        node.prepare()
    stop.clear()
    node.prepare()
