"""An aggregator that is killed at every one of its writes: the next one ends the round, with the same bytes."""

import re
import signal
import sys
from pathlib import Path

import psutil
import pytest
from commands import Process, but_unsigned, coldfuse, is_alive, wait_until
from fault import aggregator_process
from fault.rounds import assert_round_is_whole, assert_same_model, contribute_three, is_done, make_federation_of
from tiny_model import write_tiny_model

from coldfuse.aggregator.model import open_base

LEASE_S = 0.3

WRITES = (
    *("rounds/00001/head", "rounds/00001/journal/00000000-opened"),
    *("checks/…", "checks/…"),  # what the two good deltas are verified by as they are fused
    *("rounds/00001/head", "rounds/00001/journal/00000001-rejected"),
    *("rounds/00001/head", "rounds/00001/journal/00000002-admitted"),
    *("rounds/00001/head", "rounds/00001/journal/00000003-closed"),
    *("objects/…", "checks/…", "objects/…"),  # the fused part, its checks, and the manifest of the release to be
    *("rounds/00001/head", "rounds/00001/journal/00000004-fused"),
    *("releases/00001.json", "channels/latest"),
    *("rounds/00001/head", "rounds/00001/journal/00000005-published"),
    *("rounds/00002/head", "rounds/00002/journal/00000000-opened"),
)
"""All that an aggregator writes in a round, in order. An append is a swap of the head, and then the entry."""


def start_aggregator(federation, folder: Path, *strike: object) -> Process:
    script = aggregator_process.__file__
    return Process(sys.executable, script, federation.store.url, LEASE_S, folder / "writes", *strike)


def read_log(folder: Path) -> list[str]:
    return [re.sub(r"^(objects|checks)/.*", r"\1/…", line) for line in (folder / "writes").read_text().splitlines()]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def undisturbed(base, tmp_path_factory):
    """The release of a federation whose aggregator nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    federation = make_federation_of(base, folder / "store")
    sent = fuse_undisturbed(federation, folder)
    assert tuple(read_log(folder)) == WRITES  # so the cases below are all there are
    assert_round_is_whole(federation, sent)
    return federation.latest()


def is_leading(aggregator: Process) -> bool:
    return any("leading" in line for line in list(aggregator.errors))


def finish(federation, folder):
    with start_aggregator(federation, folder) as aggregator:
        wait_until(lambda: is_leading(aggregator), "the lease")
        wait_until(lambda: is_done(federation), f"the round; {aggregator}")
        aggregator.send(signal.SIGTERM)
        aggregator.succeed()


# After one write is before the next: the store knows no other moments.
MOMENTS = [*(("before", number) for number in range(len(WRITES))), ("after", len(WRITES) - 1)]


@pytest.mark.parametrize(
    ("moment", "number"), MOMENTS, ids=[f"{moment}-{WRITES[number].replace('/', '-')}" for moment, number in MOMENTS]
)
def test_killed_at_any_write_the_round_ends_with_the_same_bytes(base, undisturbed, tmp_path, moment, number):
    federation = make_federation_of(base, tmp_path / "store")
    sent = contribute_three(federation, tmp_path)
    with start_aggregator(federation, tmp_path, "SIGKILL", moment, number) as victim:
        assert victim.wait() == -signal.SIGKILL
    assert read_log(tmp_path)[-2:] == [WRITES[number], f"struck {moment} {number}"]  # the fault landed

    finish(federation, tmp_path)

    assert_round_is_whole(federation, sent)
    assert_same_model(federation.latest(), undisturbed)


def test_killed_while_ray_fuses_its_tasks_end_and_the_bytes_are_the_same(tmp_path):
    base = write_tiny_model(tmp_path / "base", hidden_size=128, num_layers=16)
    reshard(base)
    calm, federation = (make_federation_of(base, tmp_path / name) for name in ("undisturbed", "killed"))
    sent = contribute_three(federation, tmp_path)
    assert_round_is_whole(calm, fuse_undisturbed(calm, tmp_path))
    num_parts = len(open_base(federation, federation.latest()).checkpoint.files)
    before = set(federation.store.list("objects/").keys)
    with coldfuse("aggregator", federation.store.url, "--lease", "0.5s", "--workers", 1) as victim:
        wait_until(lambda: set(federation.store.list("objects/").keys) - before, "the first fused part")
        family = [child for child in family_of(victim) if "Agent" not in child.name()]  # Ray ends those in its own time
        victim.send(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
    assert federation.journal(1).head().entry.event == "closed"  # the fault landed: not all parts were fused
    wait_until(lambda: not any(map(is_alive, family)), "Ray's processes to follow", limit_s=30)
    assert 0 < len(set(federation.store.list("objects/").keys) - before) < num_parts

    finish(federation, tmp_path)  # on threads
    assert_round_is_whole(federation, sent)
    assert_same_model(federation.latest(), calm.latest())


def fuse_undisturbed(federation, folder):
    sent = contribute_three(federation, folder)
    finish(federation, folder)
    return sent


def family_of(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def reshard(folder: Path) -> None:
    """Cut a model into many files, so that fusing it takes a while."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 20


def test_sigterm_ends_an_aggregator_with_status_0_and_frees_its_lease(base, tmp_path):
    federation = make_federation_of(base, tmp_path / "store")
    with coldfuse("aggregator", federation.store.url, "--workers", 1) as aggregator:
        aggregator.wait_for(lambda line: line == "round 1: opened on release 0")
        family = family_of(aggregator)
        aggregator.send(signal.SIGTERM)
        aggregator.succeed()
    assert but_unsigned(aggregator.errors) == []
    assert not any(map(is_alive, family))
    with start_aggregator(federation, tmp_path) as other:  # ten seconds of lease are not waited for
        wait_until(lambda: is_leading(other), "the lease", limit_s=5)
