"""A node's gateway goes away, comes back, and comes back with an older store; and its disk is full."""

import json
import shutil
import sys
from contextlib import contextmanager

import aggregator_process
import pytest
from commands import Process, but_unsigned, coldfuse
from reviews import write_reviews
from rounds import make_federation_of
from tiny_model import write_tiny_model

TRAINING = ("--send-anyway", "--epochs", 1, "--threads", 1, "--device", "cpu", "--learning-rate", 1e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def data(tmp_path):
    return write_reviews(tmp_path / "reviews.csv", num=20)


@contextmanager
def serve(store, folder, *, listen="127.0.0.1:0"):
    """A gateway and an aggregator; yields the gateway's address."""
    aggregator = Process(sys.executable, aggregator_process.__file__, store, 1.0, folder / "writes")
    with aggregator, coldfuse("gateway", store, "--listen", listen) as gateway:
        yield gateway.wait_for(lambda line: line.startswith("listening on ")).removeprefix("listening on ")


def wait_for(node: Process, phase: str, base_release: int | None) -> str:
    """Wait until the node says that it has come there, and return its words."""

    def is_it(line: str) -> bool:
        event = json.loads(line)
        return (event["phase"], event["base_release"]) == (phase, base_release)

    return json.loads(node.wait_for(is_it))["message"]


def test_a_node_outlives_its_gateway_and_an_older_store(base, data, tmp_path):
    federation = make_federation_of(base, tmp_path / "store", quorum=1)
    shutil.copytree(tmp_path / "store", tmp_path / "old")
    node = ("--data", data, "--name", "Alice", "--work", tmp_path / "node", "--patience", "0.2s", "--json")
    with serve(federation.store.url, tmp_path) as address:
        contributor = coldfuse("contribute", address, *node, *TRAINING)
        wait_for(contributor, "released", 0)
    with contributor:
        assert "cannot be reached" in wait_for(contributor, "away", None)
        with serve(federation.store.url, tmp_path, listen=address):
            wait_for(contributor, "released", max(federation.latest().release, 1))
        reached = federation.latest().release
        shutil.rmtree(tmp_path / "store")
        shutil.move(tmp_path / "old", tmp_path / "store")
        with serve(federation.store.url, tmp_path, listen=address):
            changed = contributor.wait_for(lambda line: json.loads(line)["phase"] == "changed")
        contributor.send(15)
        assert contributor.wait() == 0
    assert reached >= 2
    assert "the federation is at release 0, and was at" in json.loads(changed)["message"]
    assert but_unsigned(contributor.errors) == ["stopped; started again, it goes on from here"]


@pytest.mark.parametrize(
    ("limit_kib", "file"),
    [(50, "base/.coldfuse/incoming/model.safetensors"), (150, "release-00000/checkpoint.safetensors")],
)
def test_a_full_disk_is_one_line_with_file_and_reason(base, data, tmp_path, limit_kib, file):
    federation = make_federation_of(base, tmp_path / "store", quorum=1)
    with coldfuse("gateway", federation.store.url) as gateway:
        address = gateway.wait_for(lambda line: line.startswith("listening on ")).removeprefix("listening on ")
        node = ("--data", data, "--work", tmp_path / "node", "--dry-run", *TRAINING, "--epochs", 2)
        words = [sys.executable, "-m", "coldfuse", "contribute", address, *node]
        with Process("bash", "-c", f'ulimit -f {limit_kib}; exec "$@"', "bash", *words) as limited:
            assert limited.wait() == 1, str(limited)
    said = f"coldfuse: {tmp_path / 'node' / file}: cannot be written: File too large; raise `ulimit -f`"
    assert but_unsigned(limited.errors) == [said]
