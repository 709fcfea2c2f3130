"""Scripts that several processes run together, and scripts that are killed, take part."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Process
from own_training import aggregating, federation_of, released
from sharded_training import attached
from tiny_model import write_tiny_model

from coldfuse.registry.federation import Federation

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

SCRIPT = Path(__file__).parents[1] / "sharded_training.py"


def federation(root: Path) -> Federation:
    return federation_of(root, write_tiny_model(root / "base", num_layers=1))


def run(held: Federation, root: Path, kind: str, *launcher: object) -> Process:
    with aggregating(held), Process(sys.executable, *launcher, SCRIPT, root, held.store.url, kind) as process:
        process.wait()
    return process


def run_here(held: Federation, root: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(root)
    with aggregating(held):
        return attached(held.store.url, kind)


def test_two_processes_that_share_a_model_out_make_the_release_that_one_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, one = federation(tmp_path / "two"), federation(tmp_path / "one")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    process = run(two, tmp_path / "two", "fsdp2", *torchrun)
    ranks = [json.loads(line.partition("said ")[2]) for line in process.lines if "said " in line]
    assert sorted((said["rank"], said["bases"], said["is_whole"]) for said in ranks) == [
        ("0", [0, 1], False), ("1", [0, 1], False)
    ], str(process)  # fmt: skip
    assert run_here(one, tmp_path / "one", "alone", monkeypatch)["is_whole"]
    assert [c.num_examples for c in two.latest().contributions] == [16]
    before, made, expected = released(two, 0), released(two), released(one)
    assert any(not torch.equal(before[name], made[name]) for name in before)
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=2e-3)


def test_what_ends_the_first_process_s_work_is_the_same_kind_of_error_in_the_others(tmp_path: Path) -> None:
    script = SCRIPT.with_name("meeting.py")
    with (
        Process(sys.executable, script, tmp_path / "met", 0) as first,
        Process(sys.executable, script, tmp_path / "met", 1) as second,
    ):
        assert (first.wait(), second.wait()) == (0, 0), f"{first}{second}"
    assert "said release 1 is out" in str(first)
    assert "said the first process could not go on: release 1 is out" in str(second)


def test_a_script_that_is_killed_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = federation(tmp_path)
    process = run(held, tmp_path, "killed-at-3")
    assert process.wait() == -signal.SIGKILL, str(process)
    assert held.journal(1).state().received == {}
    assert run_here(held, tmp_path, "killed-at-0", monkeypatch)["steps"] == [3, 4]
    assert [c.num_examples for c in held.latest().contributions] == [16]
