"""A contributor that is killed or stopped while it trains or sends: started again, it goes on, and nothing differs."""

import json
import re
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from commands import Process, but_unsigned, coldfuse, run_coldfuse, wait_until
from fault import aggregator_process
from fault.rounds import make_federation_of
from fault.slow_proxy import SlowProxy
from reviews import write_reviews
from tiny_model import write_tiny_model

from coldfuse.contributor.work import Trained
from coldfuse.core.blob import Part
from coldfuse.core.serialization import decode, encode
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header, write_safetensors

EPOCH_STEPS = 90
TRAINING = (
    "--send-anyway",
    "--threads",
    1,
    "--device",
    "cpu",
    "--batch-size",
    4,
    "--epochs",
    2,
    "--seed",
    3,
    "--learning-rate",
    3e-3,
)
MIB = 1 << 20


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("data") / "ada.csv", num=EPOCH_STEPS * 4 * 10 // 9)


@contextmanager
def serve(federation, folder: Path):
    """A gateway and an aggregator; yields the gateway's address."""
    script = aggregator_process.__file__
    aggregator = Process(sys.executable, script, federation.store.url, 5.0, folder / "writes")
    with aggregator, coldfuse("gateway", federation.store.url) as gateway:
        yield gateway.wait_for(lambda line: line.startswith("listening on ")).removeprefix("listening on ")


@pytest.fixture
def federation(base, tmp_path):
    return make_federation_of(base, tmp_path / "store", quorum=1)


@pytest.fixture
def address(federation, tmp_path):
    with serve(federation, tmp_path) as address:
        yield address


@pytest.fixture(scope="module")
def undisturbed(base, data, tmp_path_factory):
    """The release of a federation whose contributor nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    federation = make_federation_of(base, folder / "store", quorum=1)
    with serve(federation, folder) as address, start(address, data, folder) as contributor:
        assert steps(contributor.succeed()) == list(range(1, 2 * EPOCH_STEPS + 1))
    return federation.latest()


def start(address: str, data: Path, folder: Path, *options: object) -> Process:
    node = ("--name", "reviewer", "--data", data, "--work", folder / "node", "--rounds", 1, "--json")
    return coldfuse("contribute", address, *node, *TRAINING, *options)


def events(contributor: Process, phase: str) -> list[dict]:
    return [event for line in list(contributor.lines) if (event := json.loads(line))["phase"] == phase]


def steps(contributor: Process) -> list[int]:
    """The optimiser steps that it took, in order."""
    matches = (re.search(r"step (\d+) of", event["message"]) for event in events(contributor, "training"))
    return list(dict.fromkeys(int(match[1]) for match in matches if match and match[1] != "0"))


def wait_for_step(contributor: Process, number: int) -> None:
    contributor.wait_for(lambda line: f"step {number} of" in line)


def test_killed_in_training_it_goes_on_at_the_checkpoint(federation, address, data, undisturbed, tmp_path):
    with start(address, data, tmp_path) as victim:
        wait_for_step(victim, EPOCH_STEPS + 30)
        victim.send(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
    assert EPOCH_STEPS + 30 <= steps(victim)[-1] < 2 * EPOCH_STEPS  # the fault landed

    with start(address, data, tmp_path) as second:
        second.succeed()

    assert set(steps(second)) - {EPOCH_STEPS} == set(range(EPOCH_STEPS + 1, 2 * EPOCH_STEPS + 1))
    assert federation.latest().model_digest == undisturbed.model_digest


def test_sigterm_in_training_ends_it_with_status_0_and_the_next_start_goes_on(
    federation, address, data, undisturbed, tmp_path
):
    with start(address, data, tmp_path) as first:
        wait_for_step(first, 20)
        first.send(signal.SIGTERM)
        first.succeed()
    assert but_unsigned(first.errors) == ["stopped; started again, it goes on from here"]
    assert federation.latest().release == 0

    with start(address, data, tmp_path) as second:
        second.succeed()

    assert steps(first)[-1] < EPOCH_STEPS
    assert steps(second)[0] - steps(first)[-1] in (0, 1)
    assert steps(second)[-1] == 2 * EPOCH_STEPS
    assert federation.latest().model_digest == undisturbed.model_digest


def test_sigterm_ends_it_at_once_while_the_gateway_does_not_answer(address, data, tmp_path):
    with SlowProxy(address, bytes_per_s=0.01) as proxy, start(proxy.address, data, tmp_path) as contributor:
        wait_until(lambda: proxy.num_clients, "the contributor to call")
        began = time.monotonic()
        contributor.send(signal.SIGTERM)
        contributor.succeed()
    assert time.monotonic() - began < 10
    assert but_unsigned(contributor.errors) == ["stopped; started again, it goes on from here"]


def test_a_rejected_contribution_ends_with_the_aggregators_reason_on_one_line(
    base, federation, address, data, undisturbed, tmp_path
):
    dry = run_coldfuse(
        "contribute", address, "--name", "reviewer", "--data", data, "--work", tmp_path / "node", "--dry-run", *TRAINING
    )
    assert dry.wait() == 0, str(dry)
    spoil(base, tmp_path / "node" / "release-00000")

    with start(address, data, tmp_path) as rejected:
        assert rejected.wait() == 1

    assert steps(rejected) == []  # what the dry run had trained
    assert len(but_unsigned(rejected.errors)) == 1
    assert re.fullmatch(
        r"coldfuse: reviewer: rejected: delta: tensor 'pooler.dense.bias' has 32 values that are NaN or infinite; .*",
        but_unsigned(rejected.errors)[0],
    )
    assert federation.latest().release == 0


def spoil(base: Path, work: Path) -> None:
    """Put a delta full of NaN in the place of the one that was trained."""
    trained = decode(Trained, (work / "trained.json").read_bytes(), what="trained.json")
    schema = open_checkpoint(base).schema
    header = delta_header(schema, ["pooler.dense.bias"], encoding="F32", base_digest=trained.base_digest)
    nan = np.full(32, np.nan, np.float32).view(np.uint8)
    delta = write_safetensors(work / "delta.safetensors", header, lambda _piece: nan)
    (work / "trained.json").write_bytes(encode(trained.model_copy(update={"delta": delta})))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model whose delta has several parts of 16 MiB."""
    return write_tiny_model(tmp_path_factory.mktemp("large") / "base", hidden_size=512, num_layers=12)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_ended_in_the_middle_of_the_upload_it_sends_only_the_rest(large, data, tmp_path, signal_number):
    federation = make_federation_of(large, tmp_path / "store", quorum=1)
    few = write_reviews(tmp_path / "ada.csv", num=20)
    work = tmp_path / "node" / "release-00000"
    with serve(federation, tmp_path) as address, SlowProxy(address, bytes_per_s=30 * MIB) as proxy:
        with start(proxy.address, few, tmp_path, "--epochs", 1) as victim:
            wait_until(lambda: missing_bytes(federation, work) < delta_bytes(work) // 2, "half of the delta to be sent")
            victim.send(signal_number)
            assert victim.wait() == (0 if signal_number == signal.SIGTERM else -signal.SIGKILL)
        missing = missing_bytes(federation, work)
        assert events(victim, "committed") == []
        proxy.bytes_per_s, proxy.num_sent = 1e9, 0
        with start(proxy.address, few, tmp_path, "--epochs", 1) as second:
            second.succeed()

    assert missing > 8 * MIB  # the fault landed in the middle
    assert steps(victim)
    assert events(second, "training") == []
    # What the victim had sent may still pass the proxy; sending one part again would be 16 MiB.
    assert missing <= proxy.num_sent < missing + 8 * MIB
    fused = run_coldfuse("fuse", large, work / "delta.safetensors", "--out", tmp_path / "fused").succeed()
    assert fused.lines[-1] == f"digest {federation.latest().model_digest}"


def missing_bytes(federation, work: Path) -> int:
    """What the store has not got of a node's delta."""
    parts = parts_of(work)
    return sum(part.size_bytes for part in parts if not federation.objects.has(part.digest, part.size_bytes))


def delta_bytes(work: Path) -> int:
    return sum(part.size_bytes for part in parts_of(work))


def parts_of(work: Path) -> tuple[Part, ...]:
    try:
        return decode(Trained, (work / "trained.json").read_bytes(), what="trained.json").delta.parts
    except FileNotFoundError:
        return ()  # it still trains
