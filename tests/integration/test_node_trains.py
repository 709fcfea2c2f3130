"""A node fetches a base and trains it, with real files; transfers to a gateway have tests of their own."""

import threading
from dataclasses import replace

import pytest
import torch
from reviews import write_reviews
from safetensors.torch import load_file
from tiny_model import write_tiny_model

from coldfuse.contributor.events import StoppedError
from coldfuse.contributor.leaving import list_leaving, list_private
from coldfuse.contributor.node import Node
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import NodeFolder
from coldfuse.data.dataset import split
from coldfuse.data.reading import read_dataset
from coldfuse.errors import NoGainError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.storage import LocalStore
from coldfuse.training.head import LinearHead, read_head, save_head
from coldfuse.training.job import TrainingSettings
from coldfuse.training.private import read_private

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


def opposite(data):
    """The same texts with the other label each: what learns from `data` does worse on them."""
    return replace(data, labels=tuple(1 - label for label in data.labels))


@pytest.fixture
def stubborn(source, tmp_path):
    """A node whose training makes its base worse, as far as its validation can tell."""
    train, validation = split(read_dataset(write_reviews(tmp_path / "ada.csv", num=40)), seed=0)
    stop, events = threading.Event(), []

    def note(event):
        events.append(event)
        if event.phase in ("committed", "waiting"):
            stop.set()

    def make(**settings):
        given = NodeSettings(name="ada", train=train, validation=opposite(validation), training=SETTINGS, **settings)
        return Node(given, NodeFolder(tmp_path / "node"), source, note, stop), events

    return make


def test_what_does_not_beat_its_base_is_not_sent_and_its_head_is_kept(stubborn, source):
    node, events = stubborn()
    with pytest.raises(NoGainError, match=r"ada: not sent: on its own validation examples, accuracy .* → .* does not "):
        node.run(rounds=1)
    [trained] = [event for event in events if event.phase == "trained"]
    assert trained.score.after <= trained.score.before
    assert not {"uploading", "committed"} & {event.phase for event in events}
    assert node.folder.work_on(0).head.is_file()
    again, more = stubborn()
    with pytest.raises(NoGainError):  # not trained again, and not sent by a later start either
        again.contribute(wait_for_release=False)
    assert [event.phase for event in more[len(events) :]] == []


def test_a_node_without_end_says_so_in_one_line_and_waits_for_the_next_release(stubborn):
    node, events = stubborn()
    with pytest.raises(StoppedError):
        node.run(rounds=None)
    said = [event.message for event in events if event.phase == "kept"]
    assert len(said) == 1
    assert "\n" not in said[0]
    assert "--send-anyway" in said[0]
    assert events[-1].phase == "waiting"
    assert events[-1].message == "for the next release"


def test_who_wants_to_sends_it_anyway(stubborn):
    node, events = stubborn(send_anyway=True)
    with pytest.raises(StoppedError):
        node.contribute()
    assert "kept" not in [event.phase for event in events]
    assert events[-1].message == "for the round to open"  # it is about to be sent


def test_what_would_leave_is_said_with_its_change_and_the_rows_that_moved(make_node):
    node, _ = make_node()
    work, trained = node.prepare()
    leaving = {t.name: t for t in list_leaving(work.delta, node.folder.base, trained.base_digest)}
    base, delta = load_file(node.folder.base / "model.safetensors"), load_file(work.delta)
    assert leaving.keys() == delta.keys()
    for name, tensor in leaving.items():
        expected = delta[name].double().norm() / base[name].double().norm()
        assert tensor.relative_change == pytest.approx(float(expected), rel=1e-6)
        assert tensor.size_bytes == delta[name].numel() * 4
    words = leaving["embeddings.word_embeddings.weight"]
    assert words.moved_rows == int(delta[words.name].any(dim=1).sum()) < words.shape[0]
    assert list_private(work.head) == [("head.weight", (2, 32)), ("head.bias", (2,))]


def test_the_next_round_starts_from_the_head_of_the_last(make_node):
    node, _ = make_node()
    work, _ = node.prepare()
    later = node.folder.work_on(5)  # what came between was missed
    assert later.earlier_heads() == [work.head]
    assert read_private(later.earlier_heads()[0]).task == "text-classification"
    assert work.earlier_heads() == []


def test_a_head_of_an_older_version_is_a_start_too(tmp_path):
    save_head(tmp_path / "head.safetensors", LinearHead(weight=torch.ones(2, 3), bias=torch.ones(2)), ["no", "yes"])
    part = read_private(tmp_path / "head.safetensors")
    assert (part.task, dict(part.notes)) == ("text-classification", {"labels": '["no", "yes"]'})
    assert {name: tuple(tensor.shape) for name, tensor in part.tensors.items()} == {
        "head.weight": (2, 3),
        "head.bias": (2,),
    }
