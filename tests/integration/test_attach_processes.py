"""Scripts that several processes run together, and scripts that are killed, take part."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
from commands import Process
from own_training import aggregating, federation_of, released
from tiny_model import write_tiny_model

from coldfuse.registry.federation import Federation

SCRIPT = Path(__file__).parent / "sharded_training.py"


@pytest.fixture
def held(tmp_path: Path) -> Federation:
    return federation_of(tmp_path, write_tiny_model(tmp_path / "base", num_layers=1))


def run(held: Federation, root: Path, kind: str, *, num_processes: int = 1) -> Process:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", num_processes)
    launcher = torchrun if num_processes > 1 else ()
    with aggregating(held), Process(sys.executable, *launcher, SCRIPT, root, held.store.url, kind) as process:
        process.wait()
    return process


def said(process: Process) -> list[dict[str, object]]:
    found = [json.loads(line.partition("said ")[2]) for line in process.lines if "said " in line]
    assert found, str(process)
    return sorted(found, key=lambda one: str(one["rank"]))


def test_two_processes_that_share_a_model_out_make_the_release_that_one_makes(tmp_path: Path) -> None:
    made = []
    for number, kind in ((2, "fsdp2"), (1, "alone")):
        root = tmp_path / kind
        held = federation_of(root, write_tiny_model(root / "base", num_layers=1))
        ranks = said(run(held, root, kind, num_processes=number))
        assert [one["bases"] for one in ranks] == [[0, 1]] * number
        assert [one["is_whole"] for one in ranks] == [number == 1] * number
        assert [c.num_examples for c in held.latest().contributions] == [16]
        made.append(released(held))
    before = released(held, 0)
    assert any(not torch.equal(before[name], made[0][name]) for name in before)
    for name, tensor in made[0].items():
        torch.testing.assert_close(tensor, made[1][name], rtol=0, atol=2e-3)


def test_a_script_that_is_killed_goes_on_from_its_last_checkpoint(held: Federation, tmp_path: Path) -> None:
    assert run(held, tmp_path, "killed-at-3").wait() == -signal.SIGKILL
    assert held.journal(1).state().received == {}
    [again] = said(run(held, tmp_path, "killed-at-0"))
    assert again["steps"] == [3, 4]
    assert [c.num_examples for c in held.latest().contributions] == [16]
