"""A node computes the statistics that its federation asks for, says their bytes before, and sends them."""

from __future__ import annotations

import functools
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import wait_until
from reviews import write_reviews
from task_rounds import make_node as make_task_node
from tiny_model import write_tiny_model
from tiny_rounds import lead
from tiny_texts import PROVERBS, write_text_model
from typer.testing import CliRunner

import coldfuse
from coldfuse.aggregator.model import open_base
from coldfuse.cli.contributor import show_what_would_leave
from coldfuse.cli.main import app
from coldfuse.contributor.events import NodeEvent, StoppedError
from coldfuse.contributor.node import Node
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import NodeFolder
from coldfuse.core.federation import ChangeableSettings
from coldfuse.core.schema import Schema
from coldfuse.core.screening import screen_statistics
from coldfuse.core.statistics import StatisticsRule
from coldfuse.data.dataset import split
from coldfuse.data.reading import read_dataset
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.answers import Decision
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.settings import read_settings, write_change
from coldfuse.storage import LocalStore
from coldfuse.tensors.coded_statistics import all_coded_bytes
from coldfuse.tensors.codes import decode_values
from coldfuse.tensors.statistics import check_statistics
from coldfuse.tensors.tensor_file import read_file_header
from coldfuse.training.job import TrainingSettings

SETTINGS = TrainingSettings(num_epochs=1, batch_size=8, learning_rate=3e-3, threads=1, device="cpu")
KINDS = {"regmean": "gram", "fisher": "fisher", "precision": "variance"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "base")


def make_federation(root: Path, base: Path, method: str, quorum: int = 2) -> Federation:
    rules = {"quorum": quorum, "deadline_s": 60.0}
    rule = StatisticsRule.model_validate({"kind": KINDS.get(method, "none")})
    store = LocalStore(root / "store")
    return create_federation(
        store, name="tiny", base=base, origin="test", method=method, rules=rules, statistics=rule
    )  # fmt: skip


def make_node(
    root: Path, federation: Federation, name: str = "ada", stop: threading.Event | None = None
) -> tuple[Node, list[NodeEvent]]:
    data = write_reviews(root / f"{name}.csv", num=36 + len(name))
    train, validation = split(read_dataset(data), seed=0)
    settings = NodeSettings(name=name, train=train, validation=validation, training=SETTINGS)
    events: list[NodeEvent] = []
    gateway = StoreGateway(federation)
    return Node(settings, NodeFolder(root / name), gateway, events.append, stop or threading.Event()), events


@pytest.mark.parametrize("method", KINDS)
def test_a_node_says_the_bytes_then_computes_and_the_round_uses_what_it_sent(
    tmp_path: Path, base: Path, method: str
) -> None:
    federation = make_federation(tmp_path, base, method)
    lead(federation)
    for name in ("ada", "benjamin"):
        node, events = make_node(tmp_path, federation, name)
        work, trained = node.prepare()
        assert trained.statistics is not None
        said = [event for event in events if event.phase == "statistics"]
        header = read_file_header(work.statistics)
        data = sum(entry.spec.size_bytes for entry in header.tensors)
        assert f"{data:,} bytes will travel as {trained.statistics.coding}" in said[0].message
        assert (said[0].done, said[-1].done) == (0.0, 1.0)
        assert len(said) > 3
        deliver = threading.Thread(target=lambda node=node: node.contribute(wait_for_release=False))
        deliver.start()
        while deliver.is_alive():
            lead(federation)
            deliver.join(0.05)
    lead(federation)
    found = {c.contributor: c.statistics for c in federation.latest().contributions}
    assert found == dict.fromkeys(("ada", "benjamin"), KINDS[method])


def test_who_is_stopped_while_it_computes_arrives_at_the_same_bytes(tmp_path: Path, base: Path) -> None:
    federation = make_federation(tmp_path, base, "fisher")
    lead(federation)
    whole = make_node(tmp_path, federation)[0].prepare()[1]
    stop = threading.Event()
    other = tmp_path / "again"
    other.mkdir()
    node = _stopping_at(make_node(other, federation, stop=stop)[0], "statistics", stop)
    with pytest.raises(StoppedError):
        node.prepare()
    again, events = make_node(other, federation)
    work, trained = again.prepare()
    assert trained == whole
    assert "statistics" in {event.phase for event in events}
    assert work.checkpoint.exists() is False


def _stopping_at(node: Node, phase: str, stop: threading.Event) -> Node:
    """Return a node that is asked to stop when half of a phase is done."""

    def report(event: NodeEvent) -> None:
        if event.phase == phase and event.done and event.done > 0.5:
            stop.set()

    return Node(node.settings, node.folder, node.client, report, stop)


def test_a_damaged_file_of_statistics_is_made_again(tmp_path: Path, base: Path) -> None:
    federation = make_federation(tmp_path, base, "regmean")
    lead(federation)
    node, _ = make_node(tmp_path, federation)
    work, trained = node.prepare()
    data = work.statistics.read_bytes()
    work.statistics.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert not work.has_files(trained)
    again = node.prepare()[1]
    assert again == trained
    assert work.statistics.read_bytes() == data


def test_a_method_that_comes_to_need_statistics_gets_them_of_what_is_trained_again(tmp_path: Path, base: Path) -> None:
    federation = make_federation(tmp_path, base, "mean")
    node, events = make_node(tmp_path, federation)
    assert node.prepare()[1].statistics is None
    settings, etag = read_settings(federation.store)
    wanted = ChangeableSettings(method="regmean", statistics=StatisticsRule(kind="gram"))
    write_change(federation.store, settings, etag, wanted, by="me", after_release=0)
    federation = open_federation(federation.store)
    lead(federation)
    node, events = make_node(tmp_path, federation)
    work, trained = node.prepare()
    assert trained.statistics is not None
    assert "asks for gram statistics by now" in events[0].message
    info = check_statistics(read_file_header(work.statistics), federation_schema(federation), kind="gram", what="s")
    assert info.coding == "F16"
    assert node.manifest(trained, status=node.client.status()).statistics == trained.statistics


def federation_schema(federation: Federation) -> Schema:
    return open_base(federation, federation.latest()).schema


def test_a_weight_that_no_example_touches_has_the_variance_0_and_all_else_some(tmp_path: Path, base: Path) -> None:
    federation = make_federation(tmp_path, base, "precision")
    lead(federation)
    node, _ = make_node(tmp_path, federation)
    work, _ = node.prepare()
    header = read_file_header(work.statistics)
    schema = federation_schema(federation)
    found = {}
    data = work.statistics.read_bytes()
    for entry in header.tensors:
        raw = np.frombuffer(data, np.uint8, entry.spec.size_bytes, entry.start)
        found[entry.name] = decode_values(raw, schema[entry.name].num_elements, "log8", is_signed=False)
    words = found["embeddings.word_embeddings.weight"].reshape(schema["embeddings.word_embeddings.weight"].shape)
    assert (words == 0).all(axis=1).any()
    assert (words > 0).all(axis=1).any()
    assert (found["encoder.layer.0.attention.self.value.weight"] > 0).mean() > 0.99
    assert all_coded_bytes({n: schema[n].shape for n in found}, "variance", "log8") == sum(
        entry.spec.size_bytes for entry in header.tensors
    )


def test_what_was_computed_elsewhere_goes_with_a_model_folder(tmp_path: Path, base: Path) -> None:
    federation = make_federation(tmp_path, base, "fisher", quorum=1)
    lead(federation)
    source = coldfuse.connect(str(tmp_path / "store"))
    source.fetch(tmp_path / "release")
    tuned = write_tiny_model(tmp_path / "tuned", seed=3)
    data = write_reviews(tmp_path / "data.csv", num=20)
    for name, model in (("own", tuned), ("other", base)):
        words = ["statistics", model, "--data", data, "--kind", "fisher", "--out", tmp_path / name, "--threads", 1]
        result = CliRunner().invoke(app, [*map(str, words), "--examples", "4", "--device", "cpu"])
        assert result.exit_code == 0, result.output
    give = {"num_examples": 20, "name": "ada", "base": tmp_path / "release", "wait": False}
    with pytest.raises(UserInputError, match="asks for fisher statistics beside every delta"):
        source.contribute(tuned, **give)
    with pytest.raises(SchemaMismatchError, match="computed for model"):
        source.contribute(tuned, statistics=tmp_path / "other", **give)
    given = source.contribute(tuned, statistics=tmp_path / "own", **give)
    lead(federation)
    verdict = functools.partial(source.verdict, given)  # for half a second a reader may be told what was so before
    wait_until(lambda: verdict().decision is not Decision.PENDING, "a verdict")
    assert verdict().reason.endswith("and so are its fisher statistics")
    assert [c.statistics for c in federation.latest().contributions] == ["fisher"]


def test_a_dry_run_lists_what_would_go_beside_the_delta(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    federation = make_federation(tmp_path, base, "regmean")
    lead(federation)
    node, _ = make_node(tmp_path, federation)
    show_what_would_leave(node, as_json=False)
    text = capsys.readouterr().out
    work, trained = node.prepare()
    assert trained.statistics is not None
    assert f"3. its gram statistics as F16, {work.statistics.stat().st_size:,} bytes in 2 parts" in text
    assert "   encoder.layer.0.output.dense.weight  " in text
    show_what_would_leave(node, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["statistics"]["size_bytes"] == work.statistics.stat().st_size


def test_a_few_long_documents_are_as_many_examples_as_there_are_documents(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, write_text_model(tmp_path / "base", "llama"), "fisher")
    lead(federation)
    for number in range(4):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{number}.txt").write_text(" ".join(PROVERBS[number::4]))
    node, _ = make_task_node(federation, "ada", tmp_path / "texts", task="text-generation", folder=tmp_path / "nodes")
    _, trained = node.prepare()
    status = node.client.status()
    manifest = node.manifest(trained, status=status)
    assert manifest.statistics is not None
    assert manifest.statistics.count > manifest.statistics.num_examples == manifest.num_examples
    assert screen_statistics(manifest, status.statistics) is None
